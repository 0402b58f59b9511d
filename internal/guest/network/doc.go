// Package network has the network of a utility VM: the loopback device, the
// network namespaces that the host names with their adapters, and the
// name-resolution files of containers.
//
// A namespace of the host is one of the kernel's, which the agent holds by a
// descriptor from the first adapter or container to the last. An adapter goes
// into it, with its addresses and routes, as soon as the host adds it, so that
// what fails is the host's to know; containers join it. Adapters are found by
// their MAC address, never by the order in which they appear, and are called
// eth0, eth1, … in the order in which the host adds them.
package network
