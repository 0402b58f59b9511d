package uvm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// CreateWCOW makes a utility VM for Windows containers; [UtilityVM.Start]
// boots it. It boots from the UtilityVM folder of the first of
// opts.LayerFolders that has one. What it writes goes to sandbox.vhdx in the
// last of them, its scratch folder: a file that is there is used as it is; if
// there is none it is made, and the folder too. The scratch is the disk at
// SCSI 0:0, which leaves 63 for others.
//
// The caller owns the VM and closes it, and owns the scratch. If opts.ID is
// empty a GUID is stored in it; nothing else of opts is changed or kept. An
// engine whose guests cannot be Windows refuses the VM with
// [hcs.ErrNotSupported]. On error nothing is left.
func CreateWCOW(ctx context.Context, opts *OptionsWCOW) (_ *UtilityVM, err error) {
	if opts == nil {
		return nil, errOptions
	}
	vm, err := newUVM(opts.Options, "windows")
	if err != nil {
		return nil, err
	}
	common := *opts.Options
	o := &OptionsWCOW{Options: &common, LayerFolders: slices.Clone(opts.LayerFolders)}
	if err := o.verify(); err != nil {
		return nil, err
	}
	if len(o.LayerFolders) < 2 {
		return nil, errors.New("at least 2 LayerFolders must be supplied")
	}
	o.normalize(vm.host, vm.log)
	image, err := utilityVMFolder(o.LayerFolders)
	if err != nil {
		return nil, err
	}
	scratch, undo, err := vm.makeScratch(ctx, o.LayerFolders[len(o.LayerFolders)-1], image)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, undo())
		}
	}()
	vm.processors = max(1, o.ProcessorCount)
	vm.physical = !o.AllowOvercommit
	vm.external = o.ExternalGuestConnection
	vm.internal = !o.ExternalGuestConnection
	vm.scsi.init(1)
	vm.scsi.boot(scratch)
	if err := vm.claims.take(scratch, true); err != nil {
		return nil, err
	}
	var s services
	if vm.external {
		s.bridge = hcs.WindowsBridge
	}
	if err := vm.create(ctx, o.document(image, scratch), o.AdditionHCSDocumentJSON, s); err != nil {
		return nil, fmt.Errorf("utility VM for Windows containers: %w", err)
	}
	return vm, nil
}

// boot notes the disk that the VM has from the start at SCSI 0:0. It is not
// mounted. It must be called before the bus is shared.
func (b *scsiBus) boot(path string) {
	d := scsiDisk{kind: hcsschema.AttachmentVirtualDisk, windows: true}
	d.attachment = &attachment{path: hcs.SCSIPath(0, 0), guest: d.guestRequest(hcsschema.Remove)}
	b.taken[0] = true
	b.disks.put(path, d)
}
