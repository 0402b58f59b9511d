// Package pipe carries the connections of a Unix socket from one machine to
// another. Host and guest each run a [Relay]: the guest's accepts on a socket
// that looks like the host's, and connects each client to a vsock port; the
// host's accepts on that port, and connects to the [Socket].
//
//	client ── Unix socket ── Relay ── vsock ── Relay ── Unix socket ── server
//	                       guest │               │ host
package pipe
