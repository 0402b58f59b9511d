// Package virtio is the host's side of virtio devices that QEMU reaches over
// vhost-user sockets. QEMU hands a device the guest's memory and its rings; from
// then on requests pass through shared memory and eventfds and QEMU is not
// involved.
package virtio
