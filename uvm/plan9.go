package uvm

import "context"

// A Plan9Share is a folder of the host that a Linux guest has mounted.
type Plan9Share struct {
	vm   *UtilityVM
	name string
}

// Release removes the share, see [UtilityVM.RemovePlan9].
func (p9 *Plan9Share) Release(ctx context.Context) error { return p9.vm.RemovePlan9(ctx, p9) }

// AddPlan9 shares the folder hostPath with the guest, which mounts it at
// uvmPath. With restrict only the names in allowedNames are seen. It is not
// implemented yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) AddPlan9(ctx context.Context, hostPath string, uvmPath string, readOnly bool, restrict bool, allowedNames []string) (*Plan9Share, error) {
	if vm.os != "linux" {
		return nil, errNotSupported
	}
	return nil, notYet("AddPlan9")
}

// RemovePlan9 has the guest unmount a share and takes it away. It is not
// implemented yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) RemovePlan9(ctx context.Context, share *Plan9Share) error {
	if vm.os != "linux" {
		return errNotSupported
	}
	return notYet("RemovePlan9")
}
