package uvm

import (
	"context"
	"errors"
	"fmt"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// nilContainer is the id by which the guest knows the VM itself.
const nilContainer = "00000000-0000-0000-0000-000000000000"

// CreateContainer makes a container in the guest; settings is a
// [hcsschema.LinuxHostedSystem] or a [hcsschema.HostedSystem]. The caller owns
// the container and closes it; it does not outlive the VM. After a failure id
// can be used again.
func (vm *UtilityVM) CreateContainer(ctx context.Context, id string, settings any) (cow.Container, error) {
	if id == "" || id == nilContainer {
		return nil, fmt.Errorf("container id %q cannot be used", id)
	}
	if !vm.external {
		return vm.createHosted(ctx, id, settings)
	}
	c, err := vm.guest()
	if err != nil {
		return nil, err
	}
	ctr, err := c.CreateContainer(ctx, id, settings)
	if err != nil {
		return nil, fmt.Errorf("creating container %s: %w", id, vm.guestError(err))
	}
	return &guestContainer{ctr, vm}, nil
}

// createHosted has the engine make the container.
func (vm *UtilityVM) createHosted(ctx context.Context, id string, settings any) (cow.Container, error) {
	h, ok := vm.sys.(hcs.Hosted)
	if !ok {
		return nil, vm.noConnection("containers")
	}
	doc, err := hcs.NewDocument(&hcsschema.ComputeSystem{
		Owner:                             vm.owner,
		SchemaVersion:                     hcsschema.SchemaV21(),
		HostingSystemId:                   vm.id,
		HostedSystem:                      settings,
		ShouldTerminateOnLastHandleClosed: true,
	}, "")
	if err != nil {
		return nil, err
	}
	return h.CreateHosted(ctx, id, doc)
}

// CreateProcess starts a process in the guest itself, outside of any
// container; settings is a [hcsschema.ProcessParameters]. The caller owns the
// process and closes it.
func (vm *UtilityVM) CreateProcess(ctx context.Context, settings any) (cow.Process, error) {
	if !vm.external {
		p, ok := vm.sys.(hcs.Processes)
		if !ok {
			return nil, vm.noConnection("processes")
		}
		return p.CreateProcess(ctx, settings)
	}
	c, err := vm.guest()
	if err != nil {
		return nil, err
	}
	p, err := c.CreateProcess(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("creating process in utility VM %s: %w", vm.id, vm.guestError(err))
	}
	return p, nil
}

// noConnection is the error of a VM that has no connection to its guest.
func (vm *UtilityVM) noConnection(what string) error {
	return fmt.Errorf("utility VM %s has no guest connection for %s: %w", vm.id, what, hcs.ErrNotSupported)
}

// DeleteContainerState makes the guest forget what it still holds for the
// container cid, which has ended. A guest that cannot is
// [hcs.ErrNotSupported].
func (vm *UtilityVM) DeleteContainerState(ctx context.Context, cid string) error {
	if !vm.DeleteContainerStateSupported() {
		return &sentinel{"uvm guest connection does not support deleteContainerState", hcs.ErrNotSupported}
	}
	c, err := vm.guest()
	if err != nil {
		return err
	}
	if err := c.DeleteContainerState(ctx, cid); err != nil {
		return fmt.Errorf("deleting state of container %s: %w", cid, vm.guestError(err))
	}
	return nil
}

// DumpStacks returns the stacks of the guest's agent as text, and "" if it
// cannot be asked for them.
func (vm *UtilityVM) DumpStacks(ctx context.Context) (string, error) {
	c, err := vm.guest()
	if !vm.external || errors.Is(err, hcs.ErrInvalidState) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if _, caps := vm.Capabilities(); !caps.DumpStacksSupported {
		return "", nil
	}
	s, err := c.DumpStacks(ctx)
	if err != nil {
		return "", fmt.Errorf("dumping stacks of utility VM %s: %w", vm.id, vm.guestError(err))
	}
	return s, nil
}
