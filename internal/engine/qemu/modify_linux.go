package qemu

import (
	"context"
	"fmt"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// Modify implements [hcs.System].
func (s *system) Modify(ctx context.Context, req *hcsschema.ModifySettingRequest) error {
	if err := s.modify(ctx, req); err != nil {
		return &hcs.Error{Op: "modify", System: s.m.id, Path: req.ResourcePath, Err: err}
	}
	s.log.DebugContext(ctx, "system modified", "request", req.RequestType, "path", req.ResourcePath)
	return nil
}

func (s *system) modify(ctx context.Context, req *hcsschema.ModifySettingRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Err() != nil {
		return hcs.ErrStopped
	}
	limits := req.ResourcePath == hcs.PathProcessorLimits && req.GuestRequest == nil
	var a attachment
	if !limits {
		var err error
		if a, err = s.m.request(req); err != nil {
			return err
		}
	}
	s.mu.Lock()
	started := s.started
	s.mu.Unlock()
	if !started {
		return fmt.Errorf("%w: the system has not been started", hcs.ErrInvalidState)
	}
	if limits {
		return s.modifyLimits(req)
	}
	if req.RequestType == hcsschema.Remove {
		return s.unplug(ctx, a.path)
	}
	return s.plug(ctx, a)
}

// request reads a request and refuses what this engine or this machine does
// not have.
func (m *machine) request(req *hcsschema.ModifySettingRequest) (attachment, error) {
	p, err := hcs.ParsePath(req.ResourcePath)
	if err != nil {
		return attachment{}, err
	}
	if req.GuestRequest != nil {
		return attachment{}, fmt.Errorf("%w: member GuestRequest, as this engine does not speak to the guest", hcs.ErrNotSupported)
	}
	if p.Resource == hcs.ResourcePlan9 {
		return shareRequest(req)
	}
	a := attachment{path: p}
	var settings any
	switch p.Resource {
	case hcs.ResourceSCSI:
		a.disk = &hcsschema.Attachment{}
		settings = a.disk
	case hcs.ResourceVPMem:
		a.pmem = &hcsschema.VirtualPMemDevice{}
		settings = a.pmem
	case hcs.ResourceNetwork:
		a.path = adapterPath(p.Name)
		a.nic = &hcsschema.NetworkAdapter{}
		settings = a.nic
	case hcs.ResourcePCI:
		a.path = pciPath(p.Name)
		a.pci = &hcsschema.VirtualPciDevice{}
		settings = a.pci
	case hcs.ResourcePipe:
		a.pipe = &hcsschema.PipeSocket{}
		settings = a.pipe
	default:
		return a, fmt.Errorf("%w: resource path %s", hcs.ErrNotSupported, req.ResourcePath)
	}
	switch req.RequestType {
	case hcsschema.Add:
		if req.Settings != nil || a.pipe == nil { // named pipes have none
			if err := hcs.Decode(req.Settings, settings); err != nil {
				return a, err
			}
		}
		if a.pipe != nil {
			if err := checkPipe(p.Name, a.pipe); err != nil {
				return a, err
			}
		}
		if a.nic != nil {
			if err := checkAdapter(p.Name, a.nic); err != nil {
				return a, err
			}
		}
	case hcsschema.Remove: // the path says it all
	default:
		return a, fmt.Errorf("%w: request type %q", hcs.ErrNotSupported, req.RequestType)
	}
	return a, m.hasSlot(p)
}
