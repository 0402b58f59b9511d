package uvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// buildSingleFile is the Windows build from which on a share can be restricted
// to some of its files.
const buildSingleFile = 18362

// A Plan9Share is a folder of the host that a Linux guest has mounted.
type Plan9Share struct {
	vm      *UtilityVM
	release release // guards attachment
	*attachment
}

// Release removes the share, see [UtilityVM.RemovePlan9].
func (p9 *Plan9Share) Release(ctx context.Context) error { return p9.vm.RemovePlan9(ctx, p9) }

// AddPlan9 shares the folder hostPath with the guest, which mounts it at
// uvmPath. With restrict only the names in allowedNames are seen. A folder
// can be shared any number of times: every share is one of its own, and the
// caller removes it. On error nothing is shared.
func (vm *UtilityVM) AddPlan9(ctx context.Context, hostPath string, uvmPath string, readOnly bool, restrict bool, allowedNames []string) (*Plan9Share, error) {
	if vm.os != "linux" {
		return nil, errNotSupported
	}
	if restrict && vm.host.Build < buildSingleFile {
		return nil, &sentinel{"single-file mappings are not supported on this build of Windows", hcs.ErrNotSupported}
	}
	if uvmPath == "" {
		return nil, errors.New("uvmPath must be passed to AddPlan9")
	}
	flags := hcsschema.Plan9FlagLinuxMetadata
	if readOnly {
		flags |= hcsschema.Plan9FlagReadOnly
	}
	if restrict {
		flags |= hcsschema.Plan9FlagRestrictFileAccess
	}
	name := strconv.FormatUint(vm.shares.Add(1)-1, 10)
	share := hcsschema.Plan9Share{Name: name, AccessName: name, Port: int32(hcs.Plan9Port)}
	mount := hcsschema.LCOWMappedDirectory{MountPath: uvmPath, Port: int32(hcs.Plan9Port), ShareName: name}
	a := &attachment{
		path:     hcs.PathPlan9,
		settings: share,
		guest:    &hcsschema.GuestRequest{RequestType: hcsschema.Remove, ResourceType: hcsschema.ResourceMappedDirectory, Settings: mount},
	}
	share.Path, share.Flags, share.AllowedFiles = hostPath, flags, slices.Clone(allowedNames)
	mount.ReadOnly = readOnly
	err := vm.modify(ctx, &hcsschema.ModifySettingRequest{
		RequestType:  hcsschema.Add,
		ResourcePath: a.path,
		Settings:     share,
		GuestRequest: &hcsschema.GuestRequest{RequestType: hcsschema.Add, ResourceType: hcsschema.ResourceMappedDirectory, Settings: mount},
	})
	if err != nil {
		return nil, fmt.Errorf("sharing folder %s at %s: %w", hostPath, uvmPath, err)
	}
	return &Plan9Share{vm: vm, attachment: a}, nil
}

// RemovePlan9 has the guest unmount a share, and takes it away. If that fails
// it can be called again and goes on where it failed; once it has succeeded
// it does nothing. A share of another VM is [ErrNotAttached], unwrapped.
func (vm *UtilityVM) RemovePlan9(ctx context.Context, share *Plan9Share) error {
	if vm.os != "linux" {
		return errNotSupported
	}
	if share == nil || share.vm != vm {
		return ErrNotAttached
	}
	return share.release.do(func() error {
		if err := vm.detach(ctx, share.attachment); err != nil {
			return fmt.Errorf("removing plan9 share from utility VM %s: %w", vm.id, err)
		}
		return nil
	})
}
