// Package virtio is the host's side of virtio devices that QEMU reaches over
// vhost-user sockets. QEMU hands a device the guest's memory and its rings; from
// then on requests pass through shared memory and eventfds, and QEMU is not
// involved.
//
// A [Device] is for devices whose driver posts requests and waits for answers:
//
//	d := virtio.NewDevice(conn, virtio.Config{Name: "fs", Queues: 2, Serve: serve})
//
//	func serve(q int, c *virtio.Chain) {
//		request := make([]byte, c.In.Len())
//		if err := c.In.Take(request); err != nil {
//			c.Fail(err)
//			return
//		}
//		...
//		if err := c.Out.Put(answer); err != nil {
//			c.Fail(err)
//			return
//		}
//		c.Done(len(answer))
//	}
//
// A [Backend] is what it is made of, for devices that use their rings in another
// way: the conversation with QEMU, the memory, and a [Ring] for each virtqueue.
// A [Relay] has goroutines take turns at looking at one. Package virtiotest is
// the other end, for tests.
//
// # Trust
//
// Nothing that the guest or QEMU writes is believed: every message field, ring
// index and descriptor is checked, each value is read from shared memory once,
// and memory that QEMU opened read-only is never written. A malformed ring,
// descriptor or message ends the device, which reports it by Err; so does memory
// that faults because its file was cut. A driver has no more chains under way
// than its rings have descriptors, none of more than 4 GiB or 2048 pieces; 64 of
// them are worked on at a time, and 192 more that have said that they take long.
//
// # Locks
//
// A device may lock several rings, the last first. The other mutexes of this
// package are held for moments, with none taken under them; rings may be locked
// meanwhile. No lock is held while waiting for the guest.
//
// The wire formats are those of "Virtual I/O Device (VIRTIO) Version 1.2", §2.7
// (split virtqueues), and of QEMU's "Vhost-user Protocol" document. Both are
// little-endian, as is every host that byre runs on.
package virtio
