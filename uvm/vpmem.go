package uvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A vpmemBus is the persistent-memory devices of a VM.
type vpmemBus struct {
	count   int    // devices that the VM can have
	maxSize uint64 // of a device
	sticky  bool   // a device stays in its slot when it is removed
	layers  refs[string, vpmemDevice]
	left    leftovers

	mu    sync.Mutex
	slots [MaxVPMEMCount]vpmemSlot // guarded by mu
}

// A vpmemSlot is taken by a file, or, if the device is sticky, kept for the
// file that was there last. The zero slot has never been used.
type vpmemSlot struct {
	taken bool
	path  string
	file  os.FileInfo
	used  bool // there has been a device in it
}

// A vpmemDevice is a file that the guest has mounted.
type vpmemDevice struct {
	slot      int
	guestPath string
	boot      bool // the guest runs from it
	*attachment
}

func (b *vpmemBus) init(count int, maxSize uint64, sticky bool) {
	b.count, b.maxSize, b.sticky = count, maxSize, sticky
}

// boot records that the guest's root file system is device 0. It is never
// removed.
func (b *vpmemBus) boot(path string) {
	b.slots[0] = vpmemSlot{taken: true, path: path}
	b.layers.put(path, vpmemDevice{guestPath: "/", boot: true})
}

// AddVPMEM attaches the disk image at hostPath as persistent memory,
// read-only, and returns where the guest has mounted it. An image that is
// attached already is shared. Each AddVPMEM is balanced by one
// [UtilityVM.RemoveVPMEM].
//
// It fails with [ErrMaxVPMEMLayerSize] if the file is too large and with
// [ErrNoAvailableLocation] if there is no slot for it, unwrapped: such a file
// can be attached by [UtilityVM.AddSCSI] instead. A file that is attached
// writable is [ErrAlreadyAttached]. On any error nothing is attached.
//
// Where the engine cannot take persistent memory out of a running VM
// ([hcs.HostInfo] PMemRemovable), a slot serves one file for the life of the
// VM.
func (vm *UtilityVM) AddVPMEM(ctx context.Context, hostPath string) (_ string, err error) {
	if vm.os != "linux" {
		return "", errNotSupported
	}
	if err := checkText(hostPath); err != nil {
		return "", fmt.Errorf("attaching VPMEM %q: %w", hostPath, err)
	}
	var d vpmemDevice
	err = vm.carry(ctx, func(*call) (err error) {
		d, err = vm.vpmem.layers.acquire(ctx, hostPath,
			func() (vpmemDevice, error) { return vm.attachVPMEM(ctx, hostPath) },
			func(have vpmemDevice) (vpmemDevice, error) { return vm.shareVPMEM(ctx, hostPath, have) })
		return err
	}, func(ctx context.Context) error { return vm.RemoveVPMEM(ctx, hostPath) })
	if err != nil {
		return "", err
	}
	return d.guestPath, nil
}

func (vm *UtilityVM) attachVPMEM(ctx context.Context, hostPath string) (d vpmemDevice, err error) {
	fi, err := os.Stat(hostPath)
	if err != nil {
		return d, err
	}
	if uint64(fi.Size()) > vm.vpmem.maxSize {
		return d, ErrMaxVPMEMLayerSize
	}
	if err := vm.vpmem.left.clear(ctx, hostPath); err != nil {
		return d, err
	}
	if err := vm.claims.take(hostPath, false); err != nil {
		return d, err
	}
	if d.slot, err = vm.vpmem.take(hostPath, fi); err != nil {
		vm.claims.give(hostPath)
		return d, err
	}
	d.guestPath = fmt.Sprintf("/run/layers/p%d", d.slot)
	d.attachment = &attachment{path: hcs.VPMemPath(d.slot), guest: d.guestRequest(hcsschema.Remove)}
	err = vm.modify(ctx, &hcsschema.ModifySettingRequest{
		RequestType:  hcsschema.Add,
		ResourcePath: d.path,
		Settings: hcsschema.VirtualPMemDevice{
			HostPath:    hostPath,
			ReadOnly:    true,
			ImageFormat: hcsschema.ImageFormatVhd1,
		},
		GuestRequest: d.guestRequest(hcsschema.Add),
	})
	if err == nil {
		return d, nil
	}
	var half *halfDone
	switch wasThere := errors.As(err, &half); {
	case wasThere && half.host:
		left := d
		vm.vpmem.left.keep(hostPath, func(ctx context.Context) error { return vm.detachVPMEM(ctx, hostPath, left) })
	default:
		// What was called off may be there all the same.
		vm.vpmem.free(d.slot, wasThere || unanswered(err))
		vm.claims.give(hostPath)
	}
	return vpmemDevice{}, fmt.Errorf("attaching VPMEM %s: %w", hostPath, err)
}

// shareVPMEM returns what becomes of the device have when somebody else wants
// it.
func (vm *UtilityVM) shareVPMEM(ctx context.Context, hostPath string, have vpmemDevice) (vpmemDevice, error) {
	if err := vm.alive(); err != nil {
		return have, err
	}
	if have.boot || have.attachment != nil && !have.letGo {
		return have, nil
	}
	if err := vm.detachVPMEM(ctx, hostPath, have); err != nil { // its last user failed to remove it
		return have, err
	}
	have.attachment = nil
	d, err := vm.attachVPMEM(ctx, hostPath)
	if err != nil {
		return have, err
	}
	return d, nil
}

// RemoveVPMEM gives one use of the image at hostPath back. The last one has
// the guest unmount it, and detaches it. If that fails the image stays
// attached, and RemoveVPMEM can be called again. A path that is not attached
// is [ErrNotAttached], unwrapped.
func (vm *UtilityVM) RemoveVPMEM(ctx context.Context, hostPath string) (err error) {
	if vm.os != "linux" {
		return errNotSupported
	}
	return vm.carry(ctx, func(c *call) error {
		return vm.vpmem.layers.releaseFor(ctx, c, hostPath, func(d vpmemDevice) error {
			if d.boot { // its first use is the guest's own
				return ErrNotAttached
			}
			return vm.detachVPMEM(ctx, hostPath, d)
		})
	}, nil)
}

func (vm *UtilityVM) detachVPMEM(ctx context.Context, hostPath string, d vpmemDevice) error {
	if d.attachment == nil {
		return nil
	}
	if err := vm.detach(ctx, d.attachment); err != nil {
		return fmt.Errorf("detaching VPMEM %s from utility VM %s: %w", hostPath, vm.id, err)
	}
	vm.vpmem.free(d.slot, true)
	vm.claims.give(hostPath)
	return nil
}

func (d vpmemDevice) guestRequest(t hcsschema.RequestType) *hcsschema.GuestRequest {
	return &hcsschema.GuestRequest{
		RequestType:  t,
		ResourceType: hcsschema.ResourceVPMemDevice,
		Settings:     hcsschema.LCOWMappedVPMemDevice{DeviceNumber: uint32(d.slot), MountPath: d.guestPath},
	}
}

// take returns the slot that is kept for the file, or the first free one.
func (b *vpmemBus) take(path string, file os.FileInfo) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	free := -1
	for i := range b.count {
		s := &b.slots[i]
		switch {
		case s.taken:
		case s.file == nil && free < 0:
			free = i
		case s.file != nil && s.path == path && sameFile(s.file, file):
			s.taken = true
			return i, nil
		}
	}
	if free < 0 {
		return 0, ErrNoAvailableLocation
	}
	b.slots[free] = vpmemSlot{taken: true, path: path, file: file}
	return free, nil
}

// free gives a slot back. used says whether there was a device in it this
// time.
func (b *vpmemBus) free(slot int, used bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.slots[slot]
	if s.used = s.used || used; b.sticky && s.used {
		s.taken = false
		return
	}
	*s = vpmemSlot{}
}

// sameFile reports whether a and b are one file that has not been written to
// in between.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
