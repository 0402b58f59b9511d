// Package computecore is the engine for Windows hosts: the Host Compute
// Service, through its documented interface, computecore.dll.
//
// Documents and requests go to the service as they are, and its answers come
// back as [hcs.Error] with the code, the operation and the error events. All
// that is above the DLL is portable and stands on two small interfaces:
// [Service], the calls of the DLL, each of which blocks until its operation
// has its result, and [Sockets], the sockets of the hypervisor. Tests replace
// either.
//
//	e := computecore.New(computecore.Config{})   // on Windows
//	sys, err := e.Create(ctx, "vm-1", doc)
//	err = sys.Start(ctx)
//
// A call that was begun is never abandoned: where a context ends first, the
// caller goes on and the result, with the handles that may be in it, is
// collected and given back when it comes.
package computecore
