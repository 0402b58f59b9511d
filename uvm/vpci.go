package uvm

import (
	"context"

	"github.com/byrevm/byre/hcsschema"
)

// A VPCIDevice is a PCI device of the host that is given to a VM.
type VPCIDevice struct {
	// ID is the GUID by which the guest knows the device.
	ID string

	vm *UtilityVM
}

// Release takes the device back, see [UtilityVM.RemoveDevice].
func (vpci *VPCIDevice) Release(ctx context.Context) error {
	return vpci.vm.RemoveDevice(ctx, vpci.ID)
}

// AssignDevice gives a PCI device of the host to the VM. It is not
// implemented yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) AssignDevice(ctx context.Context, device hcsschema.VirtualPciDevice) (*VPCIDevice, error) {
	return nil, notYet("AssignDevice")
}

// RemoveDevice takes the device id back. It is not implemented yet: the error
// wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) RemoveDevice(ctx context.Context, id string) error {
	return notYet("RemoveDevice")
}
