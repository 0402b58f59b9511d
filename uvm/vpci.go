package uvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// A VPCIDevice is one use of a PCI device of the host that is given to a VM.
type VPCIDevice struct {
	// ID is the GUID by which the guest knows the device.
	ID string

	vm      *UtilityVM
	release release
}

// Release gives this use of the device back, see [UtilityVM.RemoveDevice]. If
// it fails it can be called again; once it has succeeded it does nothing.
func (vpci *VPCIDevice) Release(ctx context.Context) error {
	return vpci.release.do(func() error { return vpci.vm.RemoveDevice(ctx, vpci.ID) })
}

// maxPCIDevices is how many slots the id of a device can tell apart.
const maxPCIDevices = 256

// A pciBus is the devices of the host that a VM has been given.
type pciBus struct {
	count   int                      // devices that the VM can have
	devices refs[string, *pciDevice] // by what they are on the host
	left    leftovers

	mu    sync.Mutex
	slots [maxPCIDevices]string // keys of devices, "" is free; guarded by mu
	ids   map[string]string     // keys of devices by lower-case id; guarded by mu
}

// init says how many devices the engine has places for, 0 if it does not tell.
func (b *pciBus) init(count int) {
	if b.count = count; count == 0 || count > maxPCIDevices {
		b.count = maxPCIDevices
	}
}

type pciDevice struct {
	id   string
	slot int
	*attachment
}

// AssignDevice gives a PCI device of the host to the VM. A Linux guest is
// waited for until it has the device. A device that the VM has been given
// already is shared: each AssignDevice is balanced by one Release or one
// [UtilityVM.RemoveDevice]. A VM that has as many devices as the engine has
// places for ([hcs.HostInfo] PCIDevices) gets no other:
// [ErrNoAvailableLocation], unwrapped. On error the VM does not have the
// device.
func (vm *UtilityVM) AssignDevice(ctx context.Context, device hcsschema.VirtualPciDevice) (*VPCIDevice, error) {
	b, err := json.Marshal(device)
	if err != nil {
		return nil, err
	}
	key := string(b)
	var d *pciDevice
	err = vm.carry(ctx, func(*call) (err error) {
		d, err = vm.pci.devices.acquire(ctx, key,
			func() (*pciDevice, error) { return vm.attachPCI(ctx, key, device) },
			func(have *pciDevice) (*pciDevice, error) { return have, vm.alive() })
		return err
	}, func(ctx context.Context) error { return vm.RemoveDevice(ctx, d.id) })
	if err != nil {
		return nil, err
	}
	return &VPCIDevice{ID: d.id, vm: vm}, nil
}

func (vm *UtilityVM) attachPCI(ctx context.Context, key string, device hcsschema.VirtualPciDevice) (*pciDevice, error) {
	if err := vm.pci.left.clear(ctx, key); err != nil {
		return nil, err
	}
	d, err := vm.pci.take(key)
	if err != nil {
		return nil, err
	}
	req := &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add, ResourcePath: d.path, Settings: device}
	if vm.os == "linux" {
		req.GuestRequest = &hcsschema.GuestRequest{
			RequestType:  hcsschema.Add,
			ResourceType: hcsschema.ResourceVPCIDevice,
			Settings:     hcsschema.LCOWMappedVPCIDevice{VMBusGUID: d.id},
		}
	}
	err = vm.modify(ctx, req)
	if err == nil {
		return d, nil
	}
	var half *halfDone
	if errors.As(err, &half) && half.host {
		vm.pci.left.keep(key, func(ctx context.Context) error { return vm.detachPCI(ctx, d) })
	} else {
		vm.pci.free(d)
	}
	return nil, fmt.Errorf("assigning device to utility VM %s: %w", vm.id, err)
}

// RemoveDevice gives one use of the device id back; the last one takes the
// device out of the VM. If that fails it can be called again. An id that the
// VM does not have is [ErrNotAttached], unwrapped.
func (vm *UtilityVM) RemoveDevice(ctx context.Context, id string) error {
	key, ok := vm.pci.key(id)
	if !ok {
		return ErrNotAttached
	}
	return vm.pci.devices.release(ctx, key, func(d *pciDevice) error { return vm.detachPCI(ctx, d) })
}

func (vm *UtilityVM) detachPCI(ctx context.Context, d *pciDevice) error {
	if err := vm.detach(ctx, d.attachment); err != nil {
		return fmt.Errorf("removing device %s from utility VM %s: %w", d.id, vm.id, err)
	}
	vm.pci.free(d)
	return nil
}

// take draws an id for a device, in the first free slot.
func (b *pciBus) take(key string) (*pciDevice, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for slot, k := range b.slots[:b.count] {
		if k != "" {
			continue
		}
		id, err := place.NewDeviceID(slot)
		if err != nil {
			return nil, err
		}
		b.slots[slot] = key
		if b.ids == nil {
			b.ids = make(map[string]string)
		}
		b.ids[id.String()] = key
		return &pciDevice{id.String(), slot, &attachment{path: hcs.PCIPath(id.String())}}, nil
	}
	return nil, ErrNoAvailableLocation
}

func (b *pciBus) free(d *pciDevice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slots[d.slot] = ""
	delete(b.ids, d.id)
}

func (b *pciBus) key(id string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key, ok := b.ids[strings.ToLower(id)]
	return key, ok
}
