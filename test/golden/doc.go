// Package golden replays the recordings of the reference: programs of API
// calls, and all that reached the Host Compute Service and the guest because
// of them. What differs on purpose is in docs/differences.md, as rules.
//
//	golden.Run(t, golden.Config{Dir: "testdata/golden", Rules: "../docs/differences.md"})
//
// A [Bench] is what a recording is replayed on: an engine, and what it and its
// guests have seen. [Memory], the default, is the engine of package hcstest;
// another one shows that its engine hands on what this package compares.
package golden
