// Package reaper starts programs and collects every child's exit status, as
// the first process of a machine must: its own children, the processes that
// runc leaves to it, and orphans that nobody asked for.
//
// One process has one reaper, and then nothing else in it may wait for
// children: os/exec and os.StartProcess are out.
//
//	c, err := r.Start("/bin/runc", argv, attr)
//	<-c.Done()
//	c.Status()
//
// A process that a child leaves behind is adopted by its pid. While a [Hold]
// is kept no orphan is collected, so that the pid cannot belong to anybody
// else and the status is not lost when the process has ended already.
package reaper
