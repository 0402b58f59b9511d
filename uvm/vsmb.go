package uvm

import (
	"context"

	"github.com/byrevm/byre/hcsschema"
)

// vsmbPrefix is where a Windows guest finds the shares of its host.
const vsmbPrefix = `\\?\VMSMB\VSMB-{dcc079ae-60ba-4d07-847c-3493609c0870}\`

// A VSMBShare is one use of a folder or file of the host that a Windows guest
// can open.
type VSMBShare struct {
	// HostPath is the folder or file on the host.
	HostPath string

	vm *UtilityVM
}

// Release gives this use of the share back, see [UtilityVM.RemoveVSMB].
func (vsmb *VSMBShare) Release(ctx context.Context) error {
	return vsmb.vm.RemoveVSMB(ctx, vsmb.HostPath)
}

// AddVSMB shares the folder or file at hostPath with a Windows guest.
// guestRequest is not used. A Linux guest has no such shares; for a Windows
// one it is not implemented yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) AddVSMB(ctx context.Context, hostPath string, guestRequest any, options *hcsschema.VirtualSmbShareOptions) (*VSMBShare, error) {
	return nil, vm.noVSMB("AddVSMB")
}

// RemoveVSMB gives one use of the share of hostPath back; the last one removes
// it. It is not implemented yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) RemoveVSMB(ctx context.Context, hostPath string) error {
	return vm.noVSMB("RemoveVSMB")
}

// GetVSMBUvmPath returns where the guest finds what hostPath is. It is not
// implemented yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) GetVSMBUvmPath(ctx context.Context, hostPath string) (string, error) {
	return "", vm.noVSMB("GetVSMBUvmPath")
}

func (vm *UtilityVM) noVSMB(what string) error {
	if vm.os != "windows" {
		return errNotSupported
	}
	return notYet(what)
}
