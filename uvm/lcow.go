package uvm

import (
	"context"

	"github.com/byrevm/byre/hcs"
)

// CreateLCOW makes a utility VM for Linux containers; [UtilityVM.Start] boots
// it. The caller owns the VM and closes it. If opts.ID is empty a GUID is
// stored in it; nothing else of opts is changed or kept.
//
// The error of options that make no sense says which; that of a boot file
// that does not exist also is [io/fs.ErrNotExist]. On error nothing is left.
func CreateLCOW(ctx context.Context, opts *OptionsLCOW) (_ *UtilityVM, err error) {
	if opts == nil {
		return nil, errOptions
	}
	vm, err := newUVM(opts.Options, "linux")
	if err != nil {
		return nil, err
	}
	common := *opts.Options
	o := *opts
	o.Options = &common
	if err := o.verify(vm.host); err != nil {
		return nil, err
	}
	o.normalize(vm.host, vm.log)

	vm.processors = max(1, o.ProcessorCount)
	vm.physical = !o.AllowOvercommit
	vm.external = o.UseGuestConnection && o.ExternalGuestConnection
	vm.internal = o.UseGuestConnection && !o.ExternalGuestConnection
	if vm.output = o.OutputHandler; vm.output == nil {
		vm.output = LogOutput(vm.id)
	}
	vm.scsi.init(o.scsiControllers())
	vm.vpmem.init(int(o.VPMemDeviceCount), o.VPMemSizeBytes, !vm.host.PMemRemovable)
	if o.PreferredRootFSType == PreferredRootFSTypeVHD {
		vm.vpmem.boot(o.rootFSPath())
	}

	s := services{entropy: hcs.VsockServiceID(hcs.EntropyPort)}
	if o.ForwardStdout || o.ForwardStderr {
		s.log = hcs.VsockServiceID(hcs.LogPort)
	}
	if vm.external {
		s.bridge = hcs.VsockServiceID(hcs.BridgePort)
	}
	if err := vm.create(ctx, o.document(), o.AdditionHCSDocumentJSON, s); err != nil {
		return nil, err
	}
	return vm, nil
}
