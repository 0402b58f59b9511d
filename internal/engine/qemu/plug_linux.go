package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/engine/qemu/qmp"
	"github.com/byrevm/byre/internal/place"
)

// hasSlot refuses a path that this machine has no room for.
func (m *machine) hasSlot(p hcs.Path) error {
	switch p.Resource {
	case hcs.ResourceSCSI:
		if !slices.Contains(m.controllers, p.Controller) {
			return fmt.Errorf("%w: SCSI controller %d", hcs.ErrNotFound, p.Controller)
		}
		if p.Number >= place.MaxLUNs {
			return fmt.Errorf("%w: LUN %d of a SCSI controller with %d", hcs.ErrNotFound, p.Number, place.MaxLUNs)
		}
	case hcs.ResourcePCI:
		return m.hasPCISlot(p.Name)
	case hcs.ResourceVPMem:
		if p.Number >= m.pmemCount {
			return fmt.Errorf("%w: persistent-memory device %d of %d", hcs.ErrNotFound, p.Number, m.pmemCount)
		}
	}
	return nil
}

// open opens and checks what is on the host's side of an attachment.
func (s *system) open(ctx context.Context, a attachment) (device, error) {
	if a.nic != nil {
		n, err := s.openNIC(ctx, a.path.Name, a.nic)
		if err != nil {
			return nil, err
		}
		return n, nil
	}
	if a.share != nil {
		f, err := newFolder(a.share)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	if a.pci != nil {
		p, err := s.openPCI(a.path.Name, a.pci)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
	if a.pipe != nil {
		k, err := openSocket(a.path.Name, a.pipe)
		if err != nil {
			return nil, err
		}
		return k, nil
	}
	if a.disk != nil {
		d, err := openAttachment(a.path, a.disk)
		if err != nil {
			return nil, err
		}
		return d, nil
	}
	p, err := openPMem(s.m, a.path, a.pmem, s.proc.cmd.SysProcAttr.Credential)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// passFile gives QEMU a descriptor, as a set that block nodes can name.
func (s *system) passFile(ctx context.Context, f *os.File) (set int, err error) {
	var r struct {
		ID int `json:"fdset-id"`
	}
	err = s.qmp.ExecuteFile(ctx, "add-fd", nil, &r, f)
	return r.ID, err
}

// dropFile takes a set of descriptors away.
func (s *system) dropFile(ctx context.Context, set int) error {
	return s.qmp.Execute(ctx, "remove-fd", map[string]any{"fdset-id": set}, nil)
}

// dropNode closes a block node and its file.
func (s *system) dropNode(ctx context.Context, node string) error {
	return s.qmp.Execute(ctx, "blockdev-del", map[string]any{"node-name": node}, nil)
}

// deleteDevice unplugs a device and waits until QEMU reports it gone:
// device_del only asks. A device that is not there is gone.
func (s *system) deleteDevice(ctx context.Context, id string) error {
	gone := make(chan struct{})
	s.mu.Lock()
	s.deleted[id] = gone
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.deleted, id)
		s.mu.Unlock()
	}()
	err := s.qmp.Execute(ctx, "device_del", map[string]any{"id": id}, nil)
	if e := (*qmp.Error)(nil); errors.As(err, &e) && e.Class == "DeviceNotFound" {
		return nil
	}
	if err != nil {
		return err
	}
	select {
	case <-gone:
		return nil
	case <-s.proc.done:
		return hcs.ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("waiting for the device to go: %w", context.Cause(ctx))
	}
}
