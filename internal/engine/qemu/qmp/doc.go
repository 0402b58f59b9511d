// Package qmp is a client of the QEMU Machine Protocol: JSON commands and
// events, a line each, over a Unix socket that can carry descriptors too.
//
//	c, err := qmp.New(ctx, conn, func(e qmp.Event) { ... })
//	err = c.Execute(ctx, "query-status", nil, &status)
//	err = c.ExecuteFile(ctx, "add-fd", args, &set, f)
//
// The peer is trusted with nothing but an answer: lines have a limit, and what
// does not parse ends the connection.
package qmp
