// Package clock keeps the machine's clock at the host's.
//
// The host serves its time on vsock port 123: for each nonce of eight bytes
// that the guest sends, it answers with the nonce and its time since the
// epoch in nanoseconds, both little-endian. One connection serves a machine's
// life. A host without the service refuses the connection, and then the clock
// is what the kernel has made of the hardware's.
//
//	guest → host   | nonce 8 |
//	host → guest   | nonce 8 | ns 8 |
package clock
