// Package virtiotest is the other side of a virtio device of package virtio, for
// tests that boot no VM: QEMU's end of the vhost-user socket, the guest's memory,
// and a driver.
//
//	a, b := virtiotest.Pair(t)
//	d := virtio.NewDevice(a, virtio.Config{...})
//	driver := virtiotest.Boot(t, b, virtiotest.Config{Queues: 2, Events: true, Indirect: true})
//	answer := driver.Submit(1, request, 4096)
package virtiotest
