package uvm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// A SCSIMount is one use of a disk on a SCSI controller of a VM. Its members
// do not change.
type SCSIMount struct {
	// HostPath is the file or device on the host.
	HostPath string
	// UVMPath is where the guest has mounted it, "" if it has not.
	UVMPath string
	// Controller and LUN are its place.
	Controller int
	LUN        int32

	vm      *UtilityVM
	release release
}

// Release gives this use of the disk back, see [UtilityVM.RemoveSCSI]. If it
// fails it can be called again; once it has succeeded it does nothing.
func (m *SCSIMount) Release(ctx context.Context) error {
	return m.release.do(func() error { return m.vm.RemoveSCSI(ctx, m.HostPath) })
}

// A scsiBus is the SCSI controllers of a VM and the disks on them.
type scsiBus struct {
	controllers int
	disks       refs[string, scsiDisk] // by path on the host
	left        leftovers

	mu    sync.Mutex
	taken [place.MaxSCSIControllers * place.MaxLUNs]bool // by controller and LUN; guarded by mu
	at    map[int]string                                 // where the guest has mounted them; guarded by mu
}

// A scsiDisk is a disk that is attached, and where it is mounted. Without an
// attachment nothing is there: its last user has not heard yet that removing
// it succeeded in the end.
type scsiDisk struct {
	slot      int
	windows   bool   // it is a Windows guest's
	kind      string // a hcsschema.Attachment type
	readOnly  bool
	guestPath string
	*attachment
}

func (d scsiDisk) controller() int { return d.slot / place.MaxLUNs }
func (d scsiDisk) lun() int        { return d.slot % place.MaxLUNs }

func (b *scsiBus) init(controllers int) { b.controllers = controllers }

// AddSCSI attaches the disk image at hostPath at the first free place and, if
// uvmPath is not empty, has the guest mount it there. vmAccess says who is
// given access to the image first.
//
// A disk that is attached already is shared: the mount that is there is
// returned, at its own UVMPath, which may differ from uvmPath; if the disk is
// attached but not mounted, it is mounted now. If it is attached read-only and
// asked for writable, or the other way round, or as a physical disk, that is
// [ErrAlreadyAttached]. Each AddSCSI is balanced by one Release or one
// [UtilityVM.RemoveSCSI].
//
// It fails with [ErrNoSCSIControllers], [ErrTooManyAttachments] (the
// controllers of this VM are full) or [ErrNoAvailableLocation] (all that a VM
// can have are), unwrapped; then, and on any other error, nothing is
// attached.
func (vm *UtilityVM) AddSCSI(ctx context.Context, hostPath string, uvmPath string, readOnly bool, vmAccess VMAccessType) (*SCSIMount, error) {
	return vm.addSCSI(ctx, hostPath, uvmPath, hcsschema.AttachmentVirtualDisk, readOnly, vmAccess)
}

// AddSCSIPhysicalDisk attaches the disk hostPath of the host, such as
// \\.\PHYSICALDRIVE1 or /dev/sdb, and gives this VM access to it. It is
// otherwise as [UtilityVM.AddSCSI].
func (vm *UtilityVM) AddSCSIPhysicalDisk(ctx context.Context, hostPath, uvmPath string, readOnly bool) (*SCSIMount, error) {
	return vm.addSCSI(ctx, hostPath, uvmPath, hcsschema.AttachmentPassThru, readOnly, VMAccessTypeIndividual)
}

func (vm *UtilityVM) addSCSI(ctx context.Context, hostPath, uvmPath, kind string, readOnly bool, access VMAccessType) (*SCSIMount, error) {
	if err := checkText(hostPath, uvmPath); err != nil {
		return nil, fmt.Errorf("attaching SCSI disk %q: %w", hostPath, err)
	}
	want := scsiDisk{windows: vm.os == "windows", kind: kind, readOnly: readOnly, guestPath: uvmPath}
	var d scsiDisk
	err := vm.carry(ctx, func(*call) (err error) {
		d, err = vm.scsi.disks.acquire(ctx, hostPath,
			func() (scsiDisk, error) { return vm.attachSCSI(ctx, hostPath, want, access) },
			func(have scsiDisk) (scsiDisk, error) { return vm.shareSCSI(ctx, hostPath, have, want, access) })
		return err
	}, func(ctx context.Context) error { return vm.RemoveSCSI(ctx, hostPath) })
	if err != nil {
		return nil, err
	}
	return &SCSIMount{
		HostPath:   hostPath,
		UVMPath:    d.guestPath,
		Controller: d.controller(),
		LUN:        int32(d.lun()),
		vm:         vm,
	}, nil
}

// attachSCSI attaches a disk that is not there.
func (vm *UtilityVM) attachSCSI(ctx context.Context, hostPath string, d scsiDisk, access VMAccessType) (_ scsiDisk, err error) {
	if err := vm.grant(ctx, hostPath, access); err != nil {
		return d, fmt.Errorf("granting access to SCSI disk %s: %w", hostPath, err)
	}
	if vm.scsi.controllers == 0 {
		return d, ErrNoSCSIControllers
	}
	if err := vm.scsi.left.clear(ctx, hostPath); err != nil {
		return d, err
	}
	if err := vm.claims.take(hostPath, !d.readOnly); err != nil {
		return d, err
	}
	if d.slot, err = vm.scsi.take(); err != nil {
		vm.claims.give(hostPath)
		return d, err
	}
	req := &hcsschema.ModifySettingRequest{
		RequestType:  hcsschema.Add,
		ResourcePath: hcs.SCSIPath(d.controller(), d.lun()),
		Settings:     hcsschema.Attachment{Type: d.kind, Path: hostPath, ReadOnly: d.readOnly},
	}
	if d.guestPath != "" {
		req.GuestRequest = d.guestRequest(hcsschema.Add)
	}
	err = vm.at(ctx, d.guestPath, func() error { return vm.modify(ctx, req) })
	a := &attachment{path: req.ResourcePath, place: d.guestPath, guest: d.guestRequest(hcsschema.Remove)}
	if err == nil {
		d.attachment = a
		vm.scsi.mounted(d)
		return d, nil
	}
	var half *halfDone
	if errors.As(err, &half) && half.host {
		left := d
		left.attachment = a
		vm.scsi.left.keep(hostPath, func(ctx context.Context) error { return vm.detachSCSI(ctx, hostPath, left) })
	} else {
		vm.scsi.free(d.slot)
		vm.claims.give(hostPath)
	}
	return d, fmt.Errorf("attaching SCSI disk %s: %w", hostPath, err)
}

// shareSCSI returns what becomes of the disk have when somebody else wants it.
func (vm *UtilityVM) shareSCSI(ctx context.Context, hostPath string, have, want scsiDisk, access VMAccessType) (scsiDisk, error) {
	if err := vm.alive(); err != nil {
		return have, err
	}
	if have.attachment != nil && have.letGo { // its last user failed to remove it
		if err := vm.detachSCSI(ctx, hostPath, have); err != nil {
			return have, err
		}
		have.attachment = nil
	}
	if have.attachment == nil {
		d, err := vm.attachSCSI(ctx, hostPath, want, access)
		if err != nil {
			return have, err
		}
		return d, nil
	}
	if have.kind != want.kind || have.readOnly != want.readOnly {
		return have, ErrAlreadyAttached
	}
	if have.guestPath != "" || want.guestPath == "" {
		return have, nil
	}
	mounted := have
	mounted.guestPath = want.guestPath
	err := vm.at(ctx, mounted.guestPath, func() error {
		return vm.modify(ctx, &hcsschema.ModifySettingRequest{GuestRequest: mounted.guestRequest(hcsschema.Add)})
	})
	if err == nil || unanswered(err) {
		have.guest = mounted.guestRequest(hcsschema.Remove) // which may find it not mounted
		have.place = mounted.guestPath
	}
	if err != nil {
		return have, fmt.Errorf("mounting SCSI disk %s: %w", hostPath, err)
	}
	vm.scsi.mounted(mounted)
	return mounted, nil
}

// RemoveSCSI gives one use of the disk at hostPath back. The last one has the
// guest unmount and forget the disk, and detaches it. If that fails the disk
// stays attached, and RemoveSCSI can be called again.
//
// A VM without controllers is [ErrNoSCSIControllers], a path that is not
// attached [ErrNotAttached], unwrapped.
func (vm *UtilityVM) RemoveSCSI(ctx context.Context, hostPath string) error {
	if vm.scsi.controllers == 0 {
		return ErrNoSCSIControllers
	}
	return vm.carry(ctx, func(c *call) error {
		return vm.scsi.disks.releaseFor(ctx, c, hostPath, func(d scsiDisk) error { return vm.detachSCSI(ctx, hostPath, d) })
	}, nil)
}

func (vm *UtilityVM) detachSCSI(ctx context.Context, hostPath string, d scsiDisk) error {
	if d.attachment == nil {
		return nil
	}
	if err := vm.detach(ctx, d.attachment); err != nil {
		return fmt.Errorf("detaching SCSI disk %s from utility VM %s: %w", hostPath, vm.id, err)
	}
	vm.scsi.free(d.slot)
	vm.claims.give(hostPath)
	return nil
}

// GetScsiUvmPath returns where the guest has mounted the disk at hostPath, ""
// if it has not. A path that is not attached is [ErrNotAttached], unwrapped.
func (vm *UtilityVM) GetScsiUvmPath(ctx context.Context, hostPath string) (string, error) {
	d, err := vm.scsi.disks.get(ctx, hostPath)
	return d.guestPath, err
}

// guestRequest is the guest's half. A Remove is sent for every disk, so that
// the guest forgets the device; it does not say how the disk was mounted.
func (d scsiDisk) guestRequest(t hcsschema.RequestType) *hcsschema.GuestRequest {
	if d.windows {
		return &hcsschema.GuestRequest{
			RequestType:  t,
			ResourceType: hcsschema.ResourceMappedVirtualDisk,
			Settings:     hcsschema.WCOWMappedVirtualDisk{ContainerPath: d.guestPath, Lun: int32(d.lun())},
		}
	}
	s := hcsschema.LCOWMappedVirtualDisk{MountPath: d.guestPath, Lun: uint8(d.lun()), Controller: uint8(d.controller())}
	if t == hcsschema.Add {
		s.ReadOnly = d.readOnly
	}
	return &hcsschema.GuestRequest{RequestType: t, ResourceType: hcsschema.ResourceMappedVirtualDisk, Settings: s}
}

// take returns the first free slot.
func (b *scsiBus) take() (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, taken := range b.taken {
		if taken {
			continue
		}
		if i/place.MaxLUNs >= b.controllers {
			return 0, ErrTooManyAttachments
		}
		b.taken[i] = true
		return i, nil
	}
	return 0, ErrNoAvailableLocation
}

func (b *scsiBus) free(slot int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken[slot] = false
	delete(b.at, slot)
}

// mounted notes where a disk is mounted, if it is.
func (b *scsiBus) mounted(d scsiDisk) {
	if d.guestPath == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == nil {
		b.at = make(map[int]string)
	}
	b.at[d.slot] = d.guestPath
}

// holds reports whether a path of a Windows guest lies on a disk.
func (b *scsiBus) holds(path string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range b.at {
		if path == at || strings.HasPrefix(path, strings.TrimSuffix(at, `\`)+`\`) {
			return true
		}
	}
	return false
}

// grant gives the VM access to a file of the host, where the engine needs it.
func (vm *UtilityVM) grant(ctx context.Context, path string, access VMAccessType) error {
	g, ok := vm.engine.(hcs.Granter)
	if !ok || access == VMAccessTypeNoop {
		return nil
	}
	switch access {
	case VMAccessTypeGroup:
		return g.GrantAccess(ctx, vm.id, path, hcs.AccessGroup)
	case VMAccessTypeIndividual:
		return g.GrantAccess(ctx, vm.id, path, hcs.AccessVM)
	}
	return fmt.Errorf("VM access type %d does not exist", access)
}
