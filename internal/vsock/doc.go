// Package vsock has the addresses of virtual sockets and, on Linux, the guest's
// end of them.
//
// A virtual socket joins a utility VM and its host without a network: an
// endpoint is a context id (CID) and a port. Every byre VM sees itself as
// [CIDGuest] and its host as [CIDHost]; because the host's end is a device of
// that one VM (package vhostuser), equal CIDs of two VMs never meet.
//
//	l, err := vsock.Listen(1024)                      // in the guest
//	c, err := vsock.Dial(ctx, vsock.CIDHost, 1024)    // in the guest
//
// The functions are those of the guest and exist on Linux only; the addresses
// and constants are for both ends.
package vsock
