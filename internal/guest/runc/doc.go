// Package runc runs containers with the OCI runtime of the image.
//
// Every call is one run of the program, started and collected by package
// reaper; what a failed run has written to its log is the error. The processes
// that it leaves behind become children of this process:
//
//	init, err := r.Create(ctx, "c1", bundle, runc.IO{Files: pipes.Child()})
//	err = r.Start(ctx, "c1", init)
//	p, err := r.Exec(ctx, "c1", process, io)
//	<-p.Done()
//	err = r.Delete(ctx, "c1")
package runc
