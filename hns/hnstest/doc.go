// Package hnstest has a network in memory, [Network], for tests of what uses
// package hns, and [TestNetwork], the suite that says what every hns.Network
// means.
//
//	n := hnstest.New()
//	ns, err := n.CreateNamespace(ctx)
//	...
//	opts.Network = n
package hnstest
