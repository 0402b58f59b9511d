package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

// The container that a spec of Kubernetes is about, by its annotations.
const (
	annotationSandbox = "io.kubernetes.cri.sandbox-id"
	typeContainer     = "container"
	typeSandbox       = "sandbox"
)

// hasFolders reports whether the spec says itself what the root is made of.
func (c *Config) hasFolders() bool {
	s := c.Spec
	return s.Windows != nil && len(s.Windows.LayerFolders) > 0 || s.Root != nil && filepath.IsAbs(s.Root.Path)
}

// folders is a container that is made of what the layer folders of its spec
// hold (spec §4.3, §4.4), and what it has taken so far, by the order in which
// it is given back.
type folders struct {
	*Container
	config    Config
	spec      *specs.Spec // a copy
	namespace string

	layers, root, state, mounts, network []step
}

// createFromFolders is Create for a container without Config.Layers.
func createFromFolders(ctx context.Context, vm *uvm.UtilityVM, c Config) (_ *Container, err error) {
	f := &folders{Container: &Container{vm: vm}, config: c}
	if f.spec, err = copySpec(c.Spec); err != nil {
		return nil, fmt.Errorf("creating container %s: %w", c.ID, err)
	}
	if err := checkPod(c.Spec.Annotations); err != nil {
		return nil, fmt.Errorf("creating container %s: %w", c.ID, err)
	}
	defer func() {
		f.arrange()
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		err = errors.Join(err, f.release(ctx))
	}()
	began := time.Now()
	err = f.taking(&f.network, func() (err error) {
		f.namespace, err = f.connect(ctx, c.Spec, c.Network)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("creating container %s: %w", c.ID, err)
	}
	if f.namespace != "" {
		f.stage("network", began)
	}
	began = time.Now()
	prepare := f.linux
	if vm.OS() == "windows" {
		prepare = f.windows
	}
	doc, err := prepare(ctx)
	if err != nil {
		return nil, fmt.Errorf("creating container %s: %w", c.ID, err)
	}
	f.stage("layers", began)
	began = time.Now()
	if f.Container.Container, err = f.create(ctx, c.ID, doc); err != nil {
		return nil, commandError(err)
	}
	f.push("closing container", func(context.Context) error { return f.Container.Container.Close() })
	f.push("stopping container", f.stop)
	if err := f.Start(ctx); err != nil { // or ctx has ended meanwhile
		return nil, fmt.Errorf("starting container %s: %w", c.ID, err)
	}
	f.stage("container", began)
	return f.Container, nil
}

// taking notes in group what do has taken, whether it succeeds or not.
func (f *folders) taking(group *[]step, do func() error) error {
	before := f.undo
	f.undo = nil
	err := do()
	*group, f.undo = append(*group, f.undo...), before
	return err
}

// arrange puts what is to be given back into the order of the reference: the
// container, the network, the mounts, what the guest knows of the container,
// the root, and the layers, the top-most first.
func (f *folders) arrange() {
	slices.Reverse(f.layers)
	f.undo = slices.Concat(f.layers, f.root, f.state, f.mounts, f.network, f.undo)
}

// forget has the guest forget the container, whether it came to know it or
// not.
func (f *folders) forget() {
	if !f.vm.DeleteContainerStateSupported() {
		return
	}
	f.state = []step{{"deleting the guest's state", func(ctx context.Context) error {
		err := f.vm.DeleteContainerState(ctx, f.config.ID)
		var r interface{ HRESULT() uint32 }
		if errors.As(err, &r) && r.HRESULT() == resultNoContainer {
			return nil
		}
		return err
	}}}
}

// resultNoContainer is the HRESULT of a container that does not exist.
const resultNoContainer = 0xC037010E

// layerFolders returns the read-only layers, the top-most first, and the
// scratch folder.
func (f *folders) layerFolders() (layers []string, scratch string, err error) {
	var all []string
	if f.spec.Windows != nil {
		all = f.spec.Windows.LayerFolders
	}
	n := len(all) - 1
	if n < 1 {
		return nil, "", fmt.Errorf("%d layer folders are not enough: at least one layer and the scratch are needed", n+1)
	}
	return all[:n], all[n], nil
}

// addDisk attaches a disk that a spec mounts, at a place in the guest of its
// own, and returns that.
func (f *folders) addDisk(ctx context.Context, m specs.Mount, place string) (at string, err error) {
	err = f.taking(&f.mounts, func() error {
		var s *uvm.SCSIMount
		var err error
		if m.Type == mountPhysicalDisk {
			s, err = f.vm.AddSCSIPhysicalDisk(ctx, m.Source, place, readOnlyMount(m))
		} else {
			s, err = f.vm.AddSCSI(ctx, m.Source, place, readOnlyMount(m), uvm.VMAccessTypeIndividual)
		}
		if err != nil {
			return fmt.Errorf("mounting %s at %s: %w", m.Source, m.Destination, err)
		}
		if m.Type == mountManagedDisk {
			f.push("deleting disk "+m.Source, func(context.Context) error { return removeFile(m.Source) })
		}
		f.push("removing disk "+m.Source, s.Release)
		at = s.UVMPath
		return nil
	})
	return at, err
}

// Types of mounts that are disks.
const (
	mountPhysicalDisk = "physical-disk"
	mountVirtualDisk  = "virtual-disk"
	mountManagedDisk  = "automanage-virtual-disk" // deleted with the container
)

func isDisk(m specs.Mount) bool {
	return m.Type == mountPhysicalDisk || m.Type == mountVirtualDisk || m.Type == mountManagedDisk
}

// checkPod refuses annotations that do not say which container of a pod it is.
func checkPod(annotations map[string]string) error {
	kind, isKind := annotations[annotationType]
	_, isPod := annotations[annotationSandbox]
	switch {
	case isKind && !isPod:
		return fmt.Errorf("cannot specify '%s' without '%s'", annotationType, annotationSandbox)
	case isPod && !isKind:
		return fmt.Errorf("cannot specify '%s' without '%s'", annotationSandbox, annotationType)
	case isKind && kind != typeContainer && kind != typeSandbox:
		return fmt.Errorf("invalid '%s': '%s'", annotationType, kind)
	}
	return nil
}

// copySpec returns a copy that shares nothing with s.
func copySpec(s *specs.Spec) (*specs.Spec, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	c := new(specs.Spec)
	return c, json.Unmarshal(b, c)
}

// hosted is the document of a Windows container.
func hosted(c *hcsschema.Container) *hcsschema.HostedSystem {
	return &hcsschema.HostedSystem{SchemaVersion: hcsschema.SchemaV21(), Container: c}
}
