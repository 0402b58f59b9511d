// Package standin is a Host Compute Service without Windows: the calls of
// computecore.dll, carried out by the engine in memory of package hcstest.
//
// A [Service] is the whole of it in one process, for the engine's tests on
// any system. Under Wine, [Serve] puts the DLL of ../dll between the two: the
// engine calls the DLL, which has operations, handles, threads and callbacks
// as the real one has, and the DLL asks the Service.
//
//	mem := hcstest.New(hcstest.Config{Boot: guest.Boot})
//	e := standin.Engine(t, mem)                // a computecore engine
//	sys, err := e.Create(ctx, "vm-1", doc)
//
// What the real service answers in a case that its documentation leaves open
// is a guess here; docs/windows.md lists the guesses.
package standin
