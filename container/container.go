package container

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Microsoft/go-winio/pkg/guid"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/uvm"
)

// Config describes a container.
type Config struct {
	// ID names the container in its VM; "" draws one. Letters, digits and
	// "_.-", 128 at most.
	ID string

	// Spec is what to run. It is not changed. Root.Path does not count: the
	// root is made of Layers and Scratch. The sources of its bind mounts are
	// folders, regular files and listening Unix sockets of the host, which the
	// guest gets shared, or begin with "sandbox://", which is the guest's
	// business.
	Spec *specs.Spec

	// Layers are the read-only disks of the root, the lowest first, as an OCI
	// manifest lists them. Without them, and for a Windows guest always, the
	// root is what the spec says: the folders in Windows.LayerFolders, the
	// top-most layer first, the base last but one, the scratch folder last;
	// or, for a Linux guest, the folder Root.Path of the host.
	//
	// In a layer folder for a Linux guest is layer.vhd; in the scratch folder
	// is sandbox.vhdx, which for a Windows guest is made if it is not there.
	// Mounts may be of the types physical-disk, virtual-disk and
	// automanage-virtual-disk (deleted with the container) then, those of a
	// Windows guest also named pipes; devices of the type gpu are assigned to
	// a Linux guest; annotations io.microsoft.container.… limit a Windows
	// container.
	Layers []string

	// Scratch is the disk that takes what the container writes, with an empty
	// file system that the guest can write to. "" makes one of ScratchSize
	// that has no name on the host and goes with the container.
	Scratch string

	// ScratchSize is the size of a scratch disk that Create makes, in bytes;
	// 0 means 20 GiB. The disk takes only the room that is written to.
	ScratchSize int64

	// ScratchDir is the folder whose file system holds a scratch disk that
	// Create makes; "" means the folder for temporary files.
	ScratchDir string

	// Network is where the network namespace of Spec.Windows.Network, or the
	// endpoints that it lists, are; nil means the host's, hns.Host(). It must
	// be the one that the VM was made with. Without such a namespace the
	// container has a loopback network only.
	Network hns.Network
}

var validID = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// A Container is a container in a utility VM, with what it uses. Its methods
// are safe for concurrent use.
type Container struct {
	cow.Container

	vm      *uvm.UtilityVM
	process *specs.Process // of a Windows container
	stages  []hcs.Stage

	started atomic.Bool // there is a process, so there will be an exit
	ended   atomic.Bool // somebody has seen the end

	deleting sync.Mutex // one Delete at a time
	undo     []step     // what Delete has left to do, last first; guarded by deleting once Create has returned
}

type step struct {
	what string
	do   func(context.Context) error
}

// Create puts the layers of c into vm, combines them, and creates the
// container. Nothing runs yet: see [Container.Init]. When it fails,
// everything has been taken out again. The caller deletes the container.
//
// An error can be compared with [ErrCommandNotFound] and
// [ErrCommandNotExecutable]: the guest looks for the command of the spec
// already here.
func Create(ctx context.Context, vm *uvm.UtilityVM, c Config) (_ *Container, err error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("creating container: %w", err)
	}
	if vm.OS() == "windows" || len(c.Layers) == 0 {
		return createFromFolders(ctx, vm, c)
	}
	shared, err := binds(c.Spec.Mounts)
	if err != nil {
		return nil, fmt.Errorf("creating container %s: %w", c.ID, err)
	}
	k := &Container{vm: vm}
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		err = errors.Join(err, k.release(ctx))
	}()
	connected := k.connecting(ctx, c.Spec, c.Network)
	began := time.Now()
	root := path.Join("/run/gcs/c", c.ID)
	rootfs, err := k.mountRoot(ctx, c, root)
	k.stage("layers", began)
	began = time.Now()
	namespace, nerr := connected(err)
	if err = errors.Join(err, nerr); err != nil {
		return nil, fmt.Errorf("creating container %s: %w", c.ID, err)
	}
	if namespace != "" {
		k.stage("network", began)
	}
	began = time.Now()
	spec, err := guestSpec(c.Spec, rootfs, namespace)
	if err == nil {
		err = k.addBinds(ctx, spec, shared, root)
	}
	if err != nil {
		return nil, fmt.Errorf("creating container %s: %w", c.ID, err)
	}
	doc := &hcsschema.LinuxHostedSystem{
		SchemaVersion:    hcsschema.SchemaV21(),
		OciBundlePath:    root,
		OciSpecification: spec,
	}
	if k.Container, err = k.create(ctx, c.ID, doc); err != nil {
		return nil, commandError(err)
	}
	k.push("closing container", func(context.Context) error { return k.Container.Close() })
	if vm.DeleteContainerStateSupported() {
		k.push("deleting the guest's state", func(ctx context.Context) error { return vm.DeleteContainerState(ctx, c.ID) })
	}
	k.push("stopping container", k.stop)
	if err := k.Container.Start(ctx); err != nil { // or ctx has ended meanwhile
		return nil, fmt.Errorf("starting container %s: %w", c.ID, err)
	}
	k.stage("container", began)
	return k, nil
}

// create has the guest create the container. The end of ctx does not end the
// call at once: a guest that is at it uses the root, which could not be taken
// apart meanwhile. A guest that never answers has stopTimeout from then on.
func (k *Container) create(ctx context.Context, id string, doc any) (cow.Container, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopTimeout, cancel) })
	defer stop()
	return k.vm.CreateContainer(call, id, doc)
}

// check refuses what cannot be created, and draws an id if there is none.
func (c *Config) check() error {
	switch {
	case c.Spec == nil || c.Spec.Process == nil:
		return errors.New("the spec has no process")
	case len(c.Layers) == 0 && !c.hasFolders():
		return errors.New("there are no layers")
	case c.ScratchSize < 0:
		return fmt.Errorf("size of the scratch disk %d is negative", c.ScratchSize)
	}
	if c.ID == "" {
		g, err := guid.NewV4()
		if err != nil {
			return err
		}
		c.ID = g.String()
	}
	return CheckID(c.ID)
}

// CheckID reports whether an id can be that of a container: 1 to 128 letters,
// digits and "_.-", of which the first is a letter or a digit.
func CheckID(id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("id %.80q is not 1 to 128 letters, digits, and \"_.-\", with a letter or digit first", id)
	}
	return nil
}

// Timeline tells how long the steps of Create took, one after the other. The
// network is connected beside the layers: its step is what it took longer.
func (k *Container) Timeline() []hcs.Stage { return k.stages }

// Command returns a command that runs name with args beside the container's
// own process, which must run. See [cow.Cmd].
func (k *Container) Command(name string, args ...string) *cow.Cmd {
	return cow.Command(k, name, args...)
}

// Init returns the container's own process: what its spec says. Set the
// streams and start it, once. See [cow.Cmd].
func (k *Container) Init() *cow.Cmd { return &cow.Cmd{Host: k, Spec: k.process} }

// Wait returns when the container has ended.
func (k *Container) Wait() error {
	err := k.Container.Wait()
	k.ended.Store(err == nil)
	return err
}

// CreateProcess starts a process, as [cow.ProcessHost] says. An error can be
// compared with [ErrCommandNotFound] and [ErrCommandNotExecutable].
func (k *Container) CreateProcess(ctx context.Context, config any) (cow.Process, error) {
	p, err := k.Container.CreateProcess(ctx, config)
	if err != nil {
		return nil, commandError(err)
	}
	k.started.Store(true)
	return p, nil
}

const (
	stopTimeout    = 30 * time.Second // of stopping a container
	releaseTimeout = time.Minute      // of undoing a Create that failed
)

// stop makes sure that nothing of the container runs, its init included that
// the guest keeps ready for the first CreateProcess.
func (k *Container) stop(ctx context.Context) error {
	if k.ended.Load() {
		return nil
	}
	ended := make(chan struct{})
	go func() { // ends at the latest when the container is closed
		defer close(ended)
		k.Container.Wait()
	}()
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := k.Container.Terminate(ctx); err != nil {
		return err
	}
	select {
	case <-ended:
	case <-ctx.Done():
		if k.started.Load() { // else not every guest tells of an end
			return ctx.Err()
		}
	}
	return nil
}

// Delete ends what still runs in the container and takes it and its disks out
// of the VM. It goes on past a step that fails; call it again to retry those.
// Once it has succeeded it does nothing.
func (k *Container) Delete(ctx context.Context) error {
	if err := k.release(ctx); err != nil {
		return fmt.Errorf("deleting container %s: %w", k.ID(), err)
	}
	return nil
}

func (k *Container) release(ctx context.Context) error {
	k.deleting.Lock()
	defer k.deleting.Unlock()
	var errs []error
	var left []step
	for i := len(k.undo) - 1; i >= 0; i-- {
		s := k.undo[i]
		if err := s.do(ctx); err != nil && !errors.Is(err, hcs.ErrStopped) && !errors.Is(err, uvm.ErrNotAttached) {
			errs = append(errs, fmt.Errorf("%s: %w", s.what, err))
			left = append([]step{s}, left...)
		}
	}
	k.undo = left
	if len(left) > 0 && k.vmEnded() { // nothing is left of it
		k.undo = nil
		return nil
	}
	return errors.Join(errs...)
}

// endPatience is how long the end of a VM may come after that of the
// connection to its guest.
var endPatience = 3 * time.Second // shorter in tests

// vmEnded reports whether the VM has ended, or is about to.
func (k *Container) vmEnded() bool {
	ended := make(chan struct{})
	go func() { // ends with the VM
		defer close(ended)
		k.vm.Wait()
	}()
	t := time.NewTimer(endPatience)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}

func (k *Container) push(what string, do func(context.Context) error) {
	k.undo = append(k.undo, step{what, do})
}

func (k *Container) stage(name string, began time.Time) {
	k.stages = append(k.stages, hcs.Stage{Name: name, At: began, Took: time.Since(began)})
}

// guestSpec returns the spec as the agent gets it: a copy whose root is the
// union and whose network the namespace, without what belongs to the host.
func guestSpec(spec *specs.Spec, rootfs, namespace string) (*specs.Spec, error) {
	s, err := copySpec(spec)
	if err != nil {
		return nil, err
	}
	if s.Root == nil {
		s.Root = &specs.Root{}
	}
	s.Root.Path = rootfs
	s.Hooks = nil
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	s.Linux.CgroupsPath = ""
	if s.Windows != nil {
		s.Windows = &specs.Windows{Devices: s.Windows.Devices}
		if namespace != "" {
			s.Windows.Network = &specs.WindowsNetwork{NetworkNamespace: namespace}
		}
	}
	return s, nil
}
