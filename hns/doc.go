// Package hns is the host's network as utility VMs see it: endpoints (what a
// NIC is connected to) and namespaces (groups of endpoints that a container
// or a pod sees together).
//
// [HNSEndpoint] and [HostComputeNamespace] have the JSON form of the Windows
// host networking service, because they travel to Windows guests as they are.
// A [Network] looks endpoints and namespaces up, changes and removes them.
// [Host] is the network of this host, [NewSession] the same for those who
// leave nothing behind; package hnstest has one in memory and the suite that
// every Network passes.
//
// On Linux the network is a folder of the user's run folder that processes
// share. What an endpoint cannot have is refused by name, policies included.
// There are these kinds, of which the name is VirtualNetwork:
//
//	nat          needs no root and no tap: the guest's packets end in sockets of
//	             the process that has the NIC (package internal/usernet says
//	             how, and what the guest can reach). An address of each family,
//	             the second in IPConfigs
//	bridge       byre's own bridge, with a tap for each NIC. It is made for the
//	             first endpoint and removed with the last; its guests reach each
//	             other (not those with DisableICC) and, masqueraded, what this
//	             host reaches, except link-local addresses, and this host, what
//	             listens on all its addresses. It is made to forward packets,
//	             which stays
//	bridge:NAME  a bridge that somebody else has made and looks after
//	cni:NAME     the chain of CNI plugins of that name, from the folder
//	             $NETCONFPATH (/etc/cni/net.d), of plugins in $CNI_PATH
//	             (/opt/cni/bin:/usr/lib/cni). They make an interface in a network
//	             namespace of the kernel that byre keeps for them; a NIC takes it
//	             over, with its MAC address, MTU, addresses and routes, as the
//	             kernel has them. Ports are published by the chain, if it can
//
// A guest on a bridge sends with its own addresses only. A tap is persistent
// for nobody: it is gone with its VM or the process that has the NIC, whichever
// way these end. But for CNI, that process also publishes the ports.
//
// Making and removing an endpoint of CNI takes as long as its plugins do;
// nobody else waits for that. What a killed process left, made or half made, the
// plugins remove when the next session begins.
//
// On Windows the network is that of the Host Compute Network service
// (computenetwork.dll): endpoints of schema 2, and namespaces of the type Guest.
// VirtualNetwork is the id of a network, or its name, "bridge:NAME" included. No
// name is "nat" and, on a host without a network of that name, the "Default
// Switch" of Windows clients. The service has no EnableInternalDNS and no
// EnableLowMetric, and publishes ports on all addresses of the host: a
// [PortPolicy] there has the ExternalIP 0.0.0.0. An id that a session makes says
// which process it is of; what a killed process left the next session removes. A
// call to the service cannot be called off. When a context ends before it, it
// goes on, and what it has made or moved is taken back; a removal stays one.
//
// An endpoint lives by itself. It is in at most one namespace; that does not
// decide how long it lives: removing the namespace leaves it, and removing it
// takes it out of its namespace.
//
// Ids are GUIDs and are compared without regard to case, because one part of
// the Windows service writes them in capitals and another does not.
//
//	n := hns.Host()
//	endpoints, err := hns.NamespaceEndpoints(ctx, n, id)
//	if errors.Is(err, hns.ErrNotFound) {
//		...
//	}
package hns
