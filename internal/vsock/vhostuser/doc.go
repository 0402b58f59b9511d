// Package vhostuser is the host's end of a utility VM's virtual sockets: a
// virtio-vsock device that QEMU reaches over a vhost-user socket.
//
// A [Device] belongs to one VM. QEMU hands it the guest's memory and two rings
// over the socket; from then on packets pass through shared memory and eventfds
// and QEMU is not involved. The guest sees an ordinary AF_VSOCK transport; the
// host sees [net.Listener] and [net.Conn] values that exist in this process
// only, so the VM's ports are its own:
//
//	d := vhostuser.New(conn, vhostuser.Config{})      // conn: the other end of QEMU's chardev
//	l, err := d.Listen(1024)                          // connections that the guest opens
//	c, err := d.Dial(ctx, 1024)                       // a connection to a guest port
//	...
//	d.Close()
//
// QEMU needs the guest's memory in shareable form:
//
//	-object memory-backend-memfd,id=m0,size=512M,share=on -machine q35,memory-backend=m0
//	-chardev socket,id=vs,fd=N -device vhost-user-vsock-pci,chardev=vs
//
// # Trust
//
// Nothing that the guest or QEMU writes is believed: every message field, ring
// index, descriptor, packet header and credit count is checked, each value is
// read from shared memory once, and memory that QEMU opened read-only is never
// written. A violation that belongs to one connection resets that connection; a
// malformed ring, descriptor or message ends the device, which then reports it
// in [Device.Err]. What a guest can make the host keep is bounded: the number of
// connections, the bytes buffered for each, connections not yet accepted, and
// answers not yet delivered.
//
// # Locks
//
// Four kinds of mutex, taken in this order: the ring of packets from the guest
// (Device.tx), the ring of packets to the guest (Device.rx), Device.mu, Conn.mu.
// None is held, and none of the others is taken, under that of a leader.
// Guest memory is touched only under one of the ring locks, and unmapped only
// under both. No lock is held while waiting for the guest.
//
// The wire format is that of "Virtual I/O Device (VIRTIO) Version 1.2", §5.10
// (socket device); what is below it, rings and QEMU's socket, is package virtio.
// It is little-endian, as is every host that byre runs on.
package vhostuser
