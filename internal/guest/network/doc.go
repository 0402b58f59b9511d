// Package network has the network of a utility VM: the loopback device, the
// network namespaces that the host names, and the name-resolution files of
// containers.
package network
