// Package qemu is the engine for Linux hosts: a QEMU process for each system.
//
// The document becomes a command line (argv, a pure function) of a machine
// that is paused until Start; disks and persistent memory, those of the
// document too, are plugged in over QMP. Files are opened here, in the mode
// that was asked for, and QEMU is given descriptors: it runs as a user of its
// own, under a seccomp filter, in a cgroup where one can be made. Sockets of
// the guest are those of package vhostuser, so that every system has its own
// port space and no host needs a kernel module.
//
// What a system uses on the host stands in its folder below the run folder
// before it is made (see claim): QEMU dies with its owner, and what else a
// killed owner leaves is removed by the next Create.
//
//	e := qemu.New(qemu.Config{})
//	sys, err := e.Create(ctx, "vm-1", doc)
//	err = sys.Start(ctx)
//
// docs/hcs.md lists the members of a document and the resource paths that are
// honoured here, and how the command line of a kernel is edited.
package qemu
