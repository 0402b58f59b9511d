package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"github.com/byrevm/byre/uvm"
)

// mountRoot attaches the disks of c and combines them below root, the
// container's folder in the guest. It returns the place of the union.
func (k *Container) mountRoot(ctx context.Context, c Config, root string) (string, error) {
	lower := make([]string, 0, len(c.Layers))
	for _, disk := range slices.Backward(c.Layers) { // the union wants the topmost first
		at, err := k.addLayer(ctx, disk)
		if err != nil {
			return "", err
		}
		lower = append(lower, at)
	}
	scratch, err := k.addScratch(ctx, c, root)
	if err != nil {
		return "", err
	}
	rootfs := path.Join(root, "rootfs")
	if err := k.vm.CombineLayersLCOW(ctx, lower, scratch, rootfs); err != nil {
		return "", fmt.Errorf("combining %d layers: %w", len(lower), err)
	}
	k.push("taking the layers apart", func(ctx context.Context) error { return k.vm.RemoveCombinedLayers(ctx, rootfs) })
	return rootfs, nil
}

// addLayer attaches a read-only disk as persistent memory, or as SCSI disk
// where there is no room for it or none that is large enough.
func (k *Container) addLayer(ctx context.Context, disk string) (string, error) {
	at, err := k.vm.AddVPMEM(ctx, disk)
	if err == nil {
		k.push("removing layer "+disk, func(ctx context.Context) error { return k.vm.RemoveVPMEM(ctx, disk) })
		return at, nil
	}
	if !errors.Is(err, uvm.ErrNoAvailableLocation) && !errors.Is(err, uvm.ErrMaxVPMEMLayerSize) {
		return "", fmt.Errorf("adding layer %s: %w", disk, err)
	}
	m, err := k.vm.AddSCSI(ctx, disk, fmt.Sprintf("/run/mounts/m%d", k.vm.UVMMountCounter()), true, uvm.VMAccessTypeNoop)
	if err != nil {
		return "", fmt.Errorf("adding layer %s: %w", disk, err)
	}
	k.push("removing layer "+disk, m.Release)
	return m.UVMPath, nil
}

// addScratch attaches the disk that takes the container's writes at root, and
// returns its place. A container with a read-only root has one too: the runtime
// makes the places of mounts that the image lacks before the root is read-only.
func (k *Container) addScratch(ctx context.Context, c Config, root string) (string, error) {
	disk := c.Scratch
	if disk == "" {
		dir := c.ScratchDir
		if dir == "" {
			dir = os.TempDir()
		}
		path, release, err := newScratch(dir, c.ScratchSize)
		if err != nil {
			return "", err
		}
		k.push("giving the scratch disk back", func(context.Context) error { return release() })
		disk = path
	}
	m, err := k.vm.AddSCSI(ctx, disk, root, false, uvm.VMAccessTypeIndividual)
	if err != nil {
		return "", fmt.Errorf("adding scratch disk: %w", err)
	}
	k.push("removing the scratch disk", m.Release)
	return m.UVMPath, nil
}
