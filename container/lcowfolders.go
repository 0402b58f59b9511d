package container

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

// Names of the files in layer folders.
const (
	layerFile   = "layer.vhd"
	scratchFile = "sandbox.vhdx"
)

const (
	deviceGPU        = "gpu" // an IDType of a device
	annotationGPUVHD = "io.microsoft.lcow.gpuvhdpath"
	gpuMount         = "/run/nvidia" // where a Linux guest has the GPU's programs
)

// linux takes what a container in a Linux guest needs, and returns its
// document.
func (f *folders) linux(ctx context.Context) (any, error) {
	bundle := path.Join("/run/gcs/c", f.config.ID)
	rootfs := path.Join(bundle, "rootfs")
	if err := f.linuxRoot(ctx, bundle, rootfs); err != nil {
		return nil, err
	}
	f.forget()
	for i := range f.spec.Mounts {
		if err := f.linuxMount(ctx, &f.spec.Mounts[i], path.Join(bundle, "mounts", fmt.Sprintf("m%d", i))); err != nil {
			return nil, err
		}
	}
	if err := f.linuxDevices(ctx); err != nil {
		return nil, err
	}
	spec, err := guestSpec(f.spec, rootfs, f.namespace)
	if err != nil {
		return nil, err
	}
	reduceLinux(spec.Linux)
	return &hcsschema.LinuxHostedSystem{
		SchemaVersion:    hcsschema.SchemaV21(),
		OciBundlePath:    bundle,
		OciSpecification: spec,
	}, nil
}

// linuxRoot makes the root of the layer folders, or of a folder of the host.
func (f *folders) linuxRoot(ctx context.Context, bundle, rootfs string) error {
	if f.spec.Windows == nil || len(f.spec.Windows.LayerFolders) == 0 {
		return f.taking(&f.root, func() error {
			share, err := f.vm.AddPlan9(ctx, f.spec.Root.Path, rootfs, f.spec.Root.Readonly, false, nil)
			if err != nil {
				return fmt.Errorf("sharing the root: %w", err)
			}
			f.push("taking the root back", share.Release)
			return nil
		})
	}
	layers, scratch, err := f.layerFolders()
	if err != nil {
		return err
	}
	var lower []string
	err = f.taking(&f.layers, func() error {
		for _, l := range layers {
			at, err := f.addLayer(ctx, filepath.Join(l, layerFile))
			if err != nil {
				return err
			}
			lower = append(lower, at)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.taking(&f.root, func() error {
		m, err := f.vm.AddSCSI(ctx, filepath.Join(scratch, scratchFile), bundle, false, uvm.VMAccessTypeIndividual)
		if err != nil {
			return fmt.Errorf("adding scratch disk: %w", err)
		}
		f.push("removing the scratch disk", m.Release)
		if err := f.vm.CombineLayersLCOW(ctx, lower, m.UVMPath, rootfs); err != nil {
			return fmt.Errorf("combining %d layers: %w", len(lower), err)
		}
		f.push("taking the layers apart", func(ctx context.Context) error { return f.vm.RemoveCombinedLayers(ctx, rootfs) })
		return nil
	})
}

// linuxMount gives the guest what of the host m mounts, at a place of its own,
// and has m begin there. Other mounts are the guest's business.
func (f *folders) linuxMount(ctx context.Context, m *specs.Mount, at string) error {
	switch {
	case isDisk(*m):
		if m.Source == "" || m.Destination == "" {
			return errors.New("a mount needs a source and a destination")
		}
		place, err := f.addDisk(ctx, *m, fmt.Sprintf("/run/mounts/m%d", f.vm.UVMMountCounter()))
		if err != nil {
			return err
		}
		m.Type, m.Source = "none", place
	case isBind(*m) && !strings.HasPrefix(m.Source, sandboxPrefix):
		b, err := newBind(*m)
		if err != nil {
			return fmt.Errorf("mounting %q at %q: %w", m.Source, m.Destination, err)
		}
		var names []string
		if b.file != "" {
			names = []string{b.file}
		}
		return f.taking(&f.mounts, func() error {
			share, err := f.vm.AddPlan9(ctx, b.dir, at, b.readOnly, b.file != "", names)
			if err != nil {
				return fmt.Errorf("mounting %s at %s: %w", m.Source, m.Destination, err)
			}
			f.push("taking "+m.Source+" back", share.Release)
			m.Source = path.Join(at, b.file)
			return nil
		})
	}
	return nil
}

// linuxDevices assigns the GPUs of the spec, and attaches the disk with the
// programs for them.
func (f *folders) linuxDevices(ctx context.Context) error {
	if f.spec.Windows == nil || len(f.spec.Windows.Devices) == 0 {
		return nil
	}
	return f.taking(&f.mounts, func() error {
		for i := range f.spec.Windows.Devices {
			d := &f.spec.Windows.Devices[i]
			if d.IDType != deviceGPU {
				return fmt.Errorf("device %s of type %q: %w", d.ID, d.IDType, hcs.ErrNotSupported)
			}
			v, err := f.vm.AssignDevice(ctx, hcsschema.VirtualPciDevice{
				Functions: []hcsschema.VirtualPciFunction{{DeviceInstancePath: d.ID}},
			})
			if err != nil {
				return fmt.Errorf("assigning device %s: %w", d.ID, err)
			}
			f.push("taking device "+d.ID+" back", v.Release)
			d.ID = v.ID
		}
		disk := f.spec.Annotations[annotationGPUVHD]
		if disk == "" {
			return fmt.Errorf("a GPU needs the annotation %s", annotationGPUVHD)
		}
		m, err := f.vm.AddSCSI(ctx, disk, gpuMount, true, uvm.VMAccessTypeNoop)
		if err != nil {
			return fmt.Errorf("attaching the disk of the GPU: %w", err)
		}
		f.push("removing the disk of the GPU", m.Release)
		return nil
	})
}

// reduceLinux takes out what the reference's guest does not know or have.
func reduceLinux(l *specs.Linux) {
	l.Seccomp = nil
	if r := l.Resources; r != nil {
		r.Devices, r.Pids, r.BlockIO, r.HugepageLimits, r.Network = nil, nil, nil, nil, nil
	}
}
