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

// A Plan9Share is one use of a folder of the host that a Linux guest has
// mounted.
type Plan9Share struct {
	vm      *UtilityVM
	key     string
	release release
}

// Release gives this use of the share back, see [UtilityVM.RemovePlan9].
func (p9 *Plan9Share) Release(ctx context.Context) error { return p9.vm.RemovePlan9(ctx, p9) }

// A plan9Bus is the shares of a VM. One without an attachment is not there:
// its last user has not heard yet that removing it succeeded in the end.
type plan9Bus struct {
	shares refs[string, *attachment] // by the key of what is shared
	left   leftovers
}

// A folder is what AddPlan9 is asked to share.
type folder struct {
	hostPath, uvmPath  string
	readOnly, restrict bool
	allowed            []string
}

// key tells whether two uses can have one share.
func (f folder) key() string {
	names := slices.Compact(slices.Sorted(slices.Values(f.allowed)))
	return fmt.Sprintf("%q %q %t %t %q", f.hostPath, f.uvmPath, f.readOnly, f.restrict, names)
}

// AddPlan9 shares the folder hostPath with the guest, which mounts it at
// uvmPath. With restrict only the names in allowedNames are seen.
//
// A folder that is shared already at that place, in the same way and with the
// same names, is counted: each AddPlan9 is balanced by one Release or one
// [UtilityVM.RemovePlan9] of the share that it returns. At another place or in
// another way it is a share of its own. On error nothing is shared.
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
	if err := checkText(append([]string{hostPath, uvmPath}, allowedNames...)...); err != nil {
		return nil, fmt.Errorf("sharing folder %q: %w", hostPath, err)
	}
	f := folder{hostPath, uvmPath, readOnly, restrict, slices.Clone(allowedNames)}
	// Every use has a number, so that the names of later shares are those that
	// they would have if nothing were counted.
	name := strconv.FormatUint(vm.shares.Add(1)-1, 10)
	key := f.key()
	share := &Plan9Share{vm: vm, key: key}
	err := vm.carry(ctx, func(*call) error {
		_, err := vm.plan9.shares.acquire(ctx, key,
			func() (*attachment, error) { return vm.attachPlan9(ctx, key, name, f) },
			func(have *attachment) (*attachment, error) { return vm.sharePlan9(ctx, have, key, name, f) })
		return err
	}, share.Release)
	if err != nil {
		return nil, fmt.Errorf("sharing folder %s at %s: %w", hostPath, uvmPath, err)
	}
	return share, nil
}

// sharePlan9 returns what becomes of the share have when somebody else wants
// it.
func (vm *UtilityVM) sharePlan9(ctx context.Context, have *attachment, key, name string, f folder) (*attachment, error) {
	if err := vm.alive(); err != nil {
		return have, err
	}
	if have != nil && !have.letGo {
		return have, nil
	}
	if err := vm.detachPlan9(ctx, have); err != nil { // its last user failed to remove it
		return have, err
	}
	return vm.attachPlan9(ctx, key, name, f)
}

// attachPlan9 makes a share that is not there. Without success it returns nil.
func (vm *UtilityVM) attachPlan9(ctx context.Context, key, name string, f folder) (*attachment, error) {
	if err := vm.plan9.left.clear(ctx, key); err != nil {
		return nil, err
	}
	flags := hcsschema.Plan9FlagLinuxMetadata
	if f.readOnly {
		flags |= hcsschema.Plan9FlagReadOnly
	}
	if f.restrict {
		flags |= hcsschema.Plan9FlagRestrictFileAccess
	}
	share := hcsschema.Plan9Share{Name: name, AccessName: name, Port: int32(hcs.Plan9Port)}
	mount := hcsschema.LCOWMappedDirectory{MountPath: f.uvmPath, Port: int32(hcs.Plan9Port), ShareName: name}
	a := &attachment{
		path:     hcs.PathPlan9,
		place:    f.uvmPath,
		settings: share,
		guest:    &hcsschema.GuestRequest{RequestType: hcsschema.Remove, ResourceType: hcsschema.ResourceMappedDirectory, Settings: mount},
	}
	share.Path, share.Flags, share.AllowedFiles = f.hostPath, flags, f.allowed
	mount.ReadOnly = f.readOnly
	req := &hcsschema.ModifySettingRequest{
		RequestType:  hcsschema.Add,
		ResourcePath: a.path,
		Settings:     share,
		GuestRequest: &hcsschema.GuestRequest{RequestType: hcsschema.Add, ResourceType: hcsschema.ResourceMappedDirectory, Settings: mount},
	}
	err := vm.at(ctx, a.place, func() error { return vm.modify(ctx, req) })
	if err == nil {
		return a, nil
	}
	var half *halfDone
	if errors.As(err, &half) && half.host {
		vm.plan9.left.keep(key, func(ctx context.Context) error { return vm.detachPlan9(ctx, a) })
	}
	return nil, err
}

// RemovePlan9 gives back the use of a share that share stands for. The last
// one has the guest unmount it, and takes it away. If that fails the share
// stays, and RemovePlan9 can be called again and goes on where it failed; once
// it has succeeded it does nothing. A share of another VM is [ErrNotAttached],
// unwrapped.
func (vm *UtilityVM) RemovePlan9(ctx context.Context, share *Plan9Share) error {
	if vm.os != "linux" {
		return errNotSupported
	}
	if share == nil || share.vm != vm {
		return ErrNotAttached
	}
	return share.release.do(func() error {
		return vm.carry(ctx, func(c *call) error {
			return vm.plan9.shares.releaseFor(ctx, c, share.key, func(a *attachment) error { return vm.detachPlan9(ctx, a) })
		}, nil)
	})
}

func (vm *UtilityVM) detachPlan9(ctx context.Context, a *attachment) error {
	if a == nil {
		return nil
	}
	if err := vm.detach(ctx, a); err != nil {
		return fmt.Errorf("removing plan9 share from utility VM %s: %w", vm.id, err)
	}
	return nil
}
