// Package usernet is a network in user space for one NIC of a VM: what the
// guest sends ends in sockets of this process, so that it needs no root, no
// tap and no rule of a firewall.
//
//	guest ── NIC ── frames ── Net ┬ gateway: ping, names (port 53), the host's loopback if allowed
//	                              ├ TCP and UDP to anywhere else: sockets of this process
//	                              └ published ports: listeners of this process, connections into the guest
//
// The TCP/IP is gVisor's netstack (Apache-2.0): it is written in a language
// that a malformed packet cannot corrupt, has IPv4 and IPv6, can be ended, and
// adds about 3 MB and three modules. gvisor-tap-vsock, which is built on the
// same stack, was looked at first: it panics on a frame shorter than an
// Ethernet header, allocates whatever length a frame claims, has no limits, no
// IPv6 and no end, and lets a guest connect to the loopback of the host.
//
// The guest is not trusted. It reaches what this host can reach, except the
// host's loopback and link-local addresses, where clouds keep credentials.
// What it can make this process hold is bounded: connections, datagram
// sessions, questions, memory of each; about 1 GiB of what neither it nor the
// other side takes, if it has every connection and fills both of its
// directions.
//
//	n, err := usernet.New(conn, usernet.Config{Guest: guest, Gateway: gateway})
//	...
//	err = n.Close()
package usernet
