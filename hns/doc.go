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
// share. It has one kind of endpoint, "nat", which needs no root and no tap:
// the guest's packets end in sockets of the process that has the NIC (package
// internal/usernet says how, and what the guest can reach). What an endpoint
// cannot have is refused by name, policies included.
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
