//go:build linux

package guest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/internal/guest/pci"
	"github.com/byrevm/byre/internal/guest/storage"
)

// modify changes the guest's half of a device, share, union or adapter.
func (a *agent) modify(ctx context.Context, req *bridge.ModifySettingsRequest) (*bridge.Response, error) {
	if req.ContainerID != bridge.NilContainer {
		return nil, fmt.Errorf("settings of container %.80q: %w", req.ContainerID, bridge.ErrNotImplemented)
	}
	var r struct {
		hcsschema.GuestRequest
		Settings json.RawMessage
	}
	if err := json.Unmarshal(req.Settings, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", bridge.ErrInvalidJSON, err)
	}
	add := true
	switch r.RequestType {
	case hcsschema.Add, "":
	case hcsschema.Remove:
		add = false
	default:
		return nil, fmt.Errorf("unsupported request type %.40q of %.40q", r.RequestType, r.ResourceType)
	}
	// A failure at boot is in the log, and fails again where it is needed.
	_ = a.env.Devices()
	if err := a.change(ctx, add, r.ResourceType, r.Settings); err != nil {
		verb := "removing"
		if add {
			verb = "adding"
		}
		return nil, fmt.Errorf("%s %s: %w", verb, r.ResourceType, err)
	}
	return nil, nil
}

func (a *agent) change(ctx context.Context, add bool, t hcsschema.ResourceType, raw json.RawMessage) error {
	modules := a.env.Modules
	switch t {
	case hcsschema.ResourceMappedVirtualDisk:
		return apply(raw, add, func(d hcsschema.LCOWMappedVirtualDisk) error { return storage.AddDisk(d, modules) }, storage.RemoveDisk)
	case hcsschema.ResourceVPMemDevice:
		return apply(raw, add, func(d hcsschema.LCOWMappedVPMemDevice) error { return storage.AddVPMem(d, modules) }, storage.RemoveVPMem)
	case hcsschema.ResourceMappedDirectory:
		return apply(raw, add, func(d hcsschema.LCOWMappedDirectory) error {
			return a.shares.Add(ctx, d, modules)
		}, a.shares.Remove)
	case hcsschema.ResourceMappedPipe:
		return apply(raw, add, a.pipes.Add, a.pipes.Remove)
	case hcsschema.ResourceVPCIDevice:
		return apply(raw, add, func(d hcsschema.LCOWMappedVPCIDevice) error { return pci.Wait(d, modules, a.log) }, pci.Gone)
	case hcsschema.ResourceCombinedLayers:
		return apply(raw, add, func(c hcsschema.CombinedLayers) error { return storage.CombineLayers(c, modules) }, storage.RemoveLayers)
	case hcsschema.ResourceNetwork:
		return apply(raw, add, func(n hcsschema.LCOWNetworkAdapter) error { return a.nets.Add(n, modules) }, a.nets.Remove)
	}
	return fmt.Errorf("resource type %.40q is not supported", t)
}

// apply decodes settings and adds or removes what they describe.
func apply[T any](raw json.RawMessage, add bool, doAdd, doRemove func(T) error) error {
	var settings T
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &settings); err != nil {
			return fmt.Errorf("%w: %w", bridge.ErrInvalidJSON, err)
		}
	}
	if add {
		return doAdd(settings)
	}
	return doRemove(settings)
}
