package uvm

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// CombineLayersLCOW makes one file system of layers at rootfsPath. All paths
// are the guest's; the first of layerPaths is the top-most. What is written
// goes to scratchPath; if it is empty the file system is read-only.
func (vm *UtilityVM) CombineLayersLCOW(ctx context.Context, layerPaths []string, scratchPath, rootfsPath string) error {
	if vm.os != "linux" {
		return errNotSupported
	}
	layers := make([]hcsschema.Layer, len(layerPaths))
	for i, p := range layerPaths {
		layers[i].Path = p
	}
	return vm.combine(ctx, hcsschema.Add, hcsschema.CombinedLayers{
		ContainerRootPath: rootfsPath,
		Layers:            layers,
		ScratchPath:       scratchPath,
	})
}

// CombineLayersWCOW makes one file system of layers, the top-most first, at
// containerRootPath, where the scratch is mounted that takes what is written.
// All paths are the guest's. A layer that is a SCSI disk is
// [ErrSCSILayerWCOWUnsupported], unwrapped: layers are shared.
func (vm *UtilityVM) CombineLayersWCOW(ctx context.Context, layerPaths []hcsschema.Layer, containerRootPath string) error {
	if vm.os != "windows" {
		return errNotSupported
	}
	for _, l := range layerPaths {
		if vm.scsi.holds(l.Path) {
			return ErrSCSILayerWCOWUnsupported
		}
	}
	return vm.combine(ctx, hcsschema.Add, hcsschema.CombinedLayers{
		ContainerRootPath: containerRootPath,
		Layers:            layerPaths,
	})
}

// RemoveCombinedLayers takes the file system at rootfsPath away again. The
// layers stay.
func (vm *UtilityVM) RemoveCombinedLayers(ctx context.Context, rootfsPath string) error {
	return vm.combine(ctx, hcsschema.Remove, hcsschema.CombinedLayers{ContainerRootPath: rootfsPath})
}

// uncombine takes away what the guest may have combined though it was called
// off.
func (vm *UtilityVM) uncombine(ctx context.Context, rootfsPath string) {
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	err := vm.modify(back, &hcsschema.ModifySettingRequest{GuestRequest: &hcsschema.GuestRequest{
		RequestType:  hcsschema.Remove,
		ResourceType: hcsschema.ResourceCombinedLayers,
		Settings:     hcsschema.CombinedLayers{ContainerRootPath: rootfsPath},
	}})
	if err != nil && !errors.Is(err, hcs.ErrStopped) {
		vm.log.WarnContext(ctx, "unanswered guest request not undone", "path", rootfsPath, "err", err)
	}
}

func (vm *UtilityVM) combine(ctx context.Context, t hcsschema.RequestType, c hcsschema.CombinedLayers) error {
	req := &hcsschema.ModifySettingRequest{GuestRequest: &hcsschema.GuestRequest{
		RequestType:  t,
		ResourceType: hcsschema.ResourceCombinedLayers,
		Settings:     c,
	}}
	work := func() error {
		err := vm.modify(ctx, req)
		if t == hcsschema.Add && (unanswered(err) || err == nil && ctx.Err() != nil) {
			vm.uncombine(ctx, c.ContainerRootPath)
			err = cmp.Or(err, ctx.Err())
		}
		return err
	}
	done := make(chan struct{})
	err := vm.carry(ctx, func(*call) error {
		defer close(done)
		return vm.at(ctx, c.ContainerRootPath, work)
	}, nil)
	if unanswered(err) {
		vm.unions.add(done)
	}
	if err != nil {
		doing := "combining"
		if t == hcsschema.Remove {
			doing = "removing combined"
		}
		return fmt.Errorf("%s layers at %s: %w", doing, c.ContainerRootPath, err)
	}
	return nil
}
