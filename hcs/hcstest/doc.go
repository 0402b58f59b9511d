// Package hcstest holds what tests need of package hcs: an engine without a
// hypervisor, a guest that speaks the real protocol, and the suite that says
// what an engine means.
//
//	e := hcstest.New(hcstest.Config{Boot: (&hcstest.Guest{}).Boot})
//	opts.Engine = e // a utility VM in memory
//	...
//	e.Calls()       // everything that reached the engine and the guest, in order
//
// [Engine] has every optional interface of package hcs. It refuses what a
// real engine would (an occupied or an empty slot, an unknown path), fails on
// request (Config.Hook, [FailNth]), and systems end as told ([System.Exit]).
// [Guest] is an agent in memory; it can also misbehave in every way that a
// hostile one would ([Fault]).
//
// [TestEngine] is the contract of package hcs as tests: what is not in it is
// not promised. It does not import package testing, so that a program can run
// it too; [Wrap] adapts a *testing.T.
package hcstest
