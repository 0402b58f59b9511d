// Package engine chooses the engine of this host: QEMU on Linux, the Host
// Compute Service on Windows.
//
//	e := engine.Host()
//	sys, err := e.Create(ctx, "vm-1", doc)
//
// New makes one with other settings, and Checks says, for people, what the
// engine needs of the host and whether it is there.
package engine
