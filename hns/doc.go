// Package hns is the host's network as utility VMs see it: endpoints (what a
// NIC is connected to) and namespaces (groups of endpoints that a container
// or a pod sees together).
//
// [HNSEndpoint] and [HostComputeNamespace] have the JSON form of the Windows
// host networking service, because they travel to Windows guests as they are.
// A [Network] looks endpoints and namespaces up, changes and removes them.
// [Host] is the network of this host; package hnstest has one in memory and
// the suite that every Network passes.
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
