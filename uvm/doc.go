// Package uvm creates utility virtual machines, changes them while they run,
// and runs containers in them.
//
// A [UtilityVM] is made from options, started, given what its containers
// need, and closed:
//
//	opts := uvm.NewDefaultOptionsLCOW("", "")
//	vm, err := uvm.CreateLCOW(ctx, opts)           // made, not started
//	defer vm.Close()                               // whatever happens
//	err = vm.Start(ctx)                            // booted, its agent answers
//	layer, err := vm.AddVPMEM(ctx, "layer.vhd")    // a disk image, mounted at layer
//	scratch, err := vm.AddSCSI(ctx, "scratch.vhdx", "/run/c/1", false, uvm.VMAccessTypeIndividual)
//	err = vm.CombineLayersLCOW(ctx, []string{layer}, scratch.UVMPath, "/run/c/1/rootfs")
//	c, err := vm.CreateContainer(ctx, "1", &hcsschema.LinuxHostedSystem{...})
//
// The machine is described by a document and changed by requests that name a
// resource path (packages hcsschema and hcs); an engine carries them out:
// the one of this host, or the one that Options.Engine names. The agent in
// the guest is spoken to over the bridge.
//
// A guest can also be Windows: [CreateWCOW] boots it from layer folders, and
// what it gets of the host's folders and files is shared by
// [UtilityVM.AddVSMB]. Disks, pipes, networks, containers and processes are
// the same for both. A method for the other kind of guest is
// [hcs.ErrNotSupported].
//
// # Sharing
//
// Disks are shared by the path on the host: the first Add attaches, later
// ones count, the last Remove detaches. An Add returns when the disk is
// there, whoever attached it. If a Remove fails the count stays as it was, so
// it can be called again, and goes on where it failed. A path that is
// attached in another mode is [ErrAlreadyAttached]; a folder or file that a
// Windows guest gets in another mode is a share of its own.
//
// # Ends
//
// [UtilityVM.Wait] returns when the machine has stopped, for whatever reason;
// [UtilityVM.ExitError] tells an orderly end (nil) from all others, which
// wrap an [hcs.Exit]. A call that needs the guest ends when its context ends
// or the guest is gone, which is [hcs.ErrStopped]: the machine has stopped, or
// its agent is lost. An Add whose context ends is undone, in the order that
// host and guest need, after it has returned; whoever wants the same next waits
// for that.
//
// Methods are safe for concurrent use. No lock is held across a call to host
// or guest, but for that of the one disk or share that the call is about.
package uvm
