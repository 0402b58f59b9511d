// Package hcs is the contract between package uvm and the engines.
//
// An [Engine] makes compute systems from documents of the HCS v2 schema
// (package hcsschema). A [System] is one of them: it is started, changed by
// requests that name a resource path, reached over sockets that a [ServiceID]
// names, and stopped. Nothing else crosses the seam: drive letters, process
// ids, sockets and device names of a hypervisor stay inside its engine.
//
//	e := engine.Host()                           // the engine of this host
//	doc, err := hcs.NewDocument(&cs, "")         // what the VM is
//	sys, err := e.Create(ctx, id, doc)           // made, not started
//	err = sys.Start(ctx)
//	err = sys.Modify(ctx, &hcsschema.ModifySettingRequest{...})
//	<-sys.Done()                                 // sys.Err() says why
//	err = sys.Close()
//
// An engine refuses what it cannot honour with [ErrNotSupported] before any
// side effect. Package hcstest holds the suite that says what the methods
// mean, and an engine in memory that passes it.
package hcs
