package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

// windows takes what a container in a Windows guest needs, and returns its
// document.
func (f *folders) windows(ctx context.Context) (any, error) {
	w := f.spec.Windows
	if w != nil && len(w.Devices) > 0 {
		return nil, fmt.Errorf("devices in a Windows container: %w", hcs.ErrNotSupported)
	}
	if w != nil && w.CredentialSpec != nil {
		return nil, fmt.Errorf("CredentialSpec of a Windows container: %w", hcs.ErrNotSupported)
	}
	if w != nil && w.Servicing {
		return nil, fmt.Errorf("servicing of a Windows container: %w", hcs.ErrNotSupported)
	}
	root := fmt.Sprintf(`C:\c\%x`, f.vm.ContainerCounter())
	c := &hcsschema.Container{Storage: &hcsschema.Storage{Path: root}}
	var err error
	if c.Storage.Layers, err = f.windowsRoot(ctx, root); err != nil {
		return nil, err
	}
	f.forget()
	for _, m := range f.spec.Mounts {
		if err := f.windowsMount(ctx, c, m); err != nil {
			return nil, err
		}
	}
	if err := f.describe(c); err != nil {
		return nil, err
	}
	f.process = f.spec.Process
	return hosted(c), nil
}

// windowsRoot combines the layer folders at root, and returns the layers as
// the guest has them.
func (f *folders) windowsRoot(ctx context.Context, root string) ([]hcsschema.Layer, error) {
	dirs, scratch, err := f.layerFolders()
	if err != nil {
		return nil, err
	}
	disk, err := scratchDisk(scratch, dirs)
	if err != nil {
		return nil, fmt.Errorf("making the scratch disk: %w", err)
	}
	var layers []hcsschema.Layer
	err = f.taking(&f.layers, func() error {
		for _, d := range dirs {
			l, err := f.addWindowsLayer(ctx, d)
			if err != nil {
				return fmt.Errorf("adding layer %s: %w", d, err)
			}
			layers = append(layers, l)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return layers, f.taking(&f.root, func() error {
		m, err := f.vm.AddSCSI(ctx, disk, root, false, uvm.VMAccessTypeIndividual)
		if err != nil {
			return fmt.Errorf("adding scratch disk: %w", err)
		}
		f.push("removing the scratch disk", m.Release)
		if err := f.vm.CombineLayersWCOW(ctx, layers, root); err != nil {
			return fmt.Errorf("combining %d layers: %w", len(layers), err)
		}
		f.push("taking the layers apart", func(ctx context.Context) error { return f.vm.RemoveCombinedLayers(ctx, root) })
		return nil
	})
}

// addWindowsLayer shares a layer folder. A layer that is a disk could only be
// attached, which is [uvm.ErrSCSILayerWCOWUnsupported].
func (f *folders) addWindowsLayer(ctx context.Context, dir string) (hcsschema.Layer, error) {
	if fi, err := os.Stat(dir); err == nil && !fi.IsDir() {
		return hcsschema.Layer{}, uvm.ErrSCSILayerWCOWUnsupported
	}
	s, err := f.vm.AddVSMB(ctx, dir, nil, &hcsschema.VirtualSmbShareOptions{
		ReadOnly:            true,
		PseudoOplocks:       true,
		TakeBackupPrivilege: true,
		CacheIo:             true,
		ShareRead:           true,
	})
	if err != nil {
		return hcsschema.Layer{}, err
	}
	f.push("taking layer "+dir+" back", s.Release)
	id, err := layerID(filepath.Base(dir))
	if err != nil {
		return hcsschema.Layer{}, err
	}
	return hcsschema.Layer{Id: id.String(), Path: s.UVMPath()}, nil
}

// windowsMount gives the guest what of the host m mounts, and notes it in the
// document.
func (f *folders) windowsMount(ctx context.Context, c *hcsschema.Container, m specs.Mount) error {
	if m.Source == "" || m.Destination == "" {
		return errors.New("a mount needs a source and a destination")
	}
	if m.Type != "" && !isDisk(m) {
		return fmt.Errorf("invalid OCI spec - Type '%s' not supported: %w", m.Type, hcs.ErrNotSupported)
	}
	if m.Type == "" && uvm.IsPipe(m.Source) {
		return f.taking(&f.mounts, func() error {
			p, err := f.vm.AddPipe(ctx, m.Source)
			if err != nil {
				return fmt.Errorf("mounting %s at %s: %w", m.Source, m.Destination, err)
			}
			f.push("taking "+m.Source+" back", p.Release)
			src, dst := uvm.GetContainerPipeMapping(f.vm, m)
			c.MappedPipes = append(c.MappedPipes, hcsschema.MappedPipe{HostPath: src, ContainerPipeName: dst})
			return nil
		})
	}
	var at string
	var err error
	if isDisk(m) {
		at, err = f.addDisk(ctx, m, fmt.Sprintf(`C:\mounts\m%d`, f.vm.UVMMountCounter()))
	} else {
		at, err = f.shareWindows(ctx, m)
	}
	if err != nil {
		return err
	}
	c.MappedDirectories = append(c.MappedDirectories, hcsschema.MappedDirectory{
		HostPath:      at,
		ContainerPath: m.Destination,
		ReadOnly:      readOnlyMount(m),
	})
	return nil
}

// shareWindows shares a folder or file, and returns where the guest has it.
func (f *folders) shareWindows(ctx context.Context, m specs.Mount) (at string, err error) {
	o := new(hcsschema.VirtualSmbShareOptions)
	if readOnlyMount(m) {
		o.ReadOnly, o.CacheIo, o.ShareRead, o.ForceLevelIIOplocks = true, true, true, true
	}
	err = f.taking(&f.mounts, func() error {
		s, err := f.vm.AddVSMB(ctx, m.Source, nil, o)
		if err != nil {
			return fmt.Errorf("mounting %s at %s: %w", m.Source, m.Destination, err)
		}
		f.push("taking "+m.Source+" back", s.Release)
		at = s.UVMPath()
		return nil
	})
	return at, err
}

// scratchDisk returns the disk in a scratch folder. If it is not there it is
// made, and the folder too; they are the caller's. A failure leaves nothing.
func scratchDisk(dir string, parents []string) (_ string, err error) {
	disk := filepath.Join(dir, scratchFile)
	switch _, err := os.Stat(disk); {
	case err == nil:
		return disk, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	made := []string{disk}
	for p := dir; p != filepath.Dir(p); p = filepath.Dir(p) {
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, p)
	}
	defer func() {
		if err == nil {
			return
		}
		for _, p := range made {
			err = errors.Join(err, removeFile(p))
		}
	}()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	return disk, makeScratchLayer(dir, parents)
}

// removeFile removes a file that may have gone.
func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
