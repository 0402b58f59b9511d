//go:build linux

package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest/cgroup"
	"github.com/byrevm/byre/internal/guest/network"
	"github.com/byrevm/byre/internal/guest/storage"
)

// Options is what a container's specification is completed with.
type Options struct {
	ID       string
	Hostname string // the machine's
	// DNS returns how names are resolved in a network namespace.
	DNS func(namespace string) (network.DNS, error)
	// Join returns the path of a network namespace and what ends its use.
	Join func(namespace string) (path string, leave func(), err error)
}

// A Prepared is a container whose specification is complete, with what that
// has put into the guest's file system.
type Prepared struct {
	Spec    *specs.Spec
	Kind    Kind
	Sandbox string // of a workload

	id     string
	mounts []string
	dirs   []string
	leave  func() // a network namespace, or nil
}

// Prepare completes a specification, which it changes, and makes the folder,
// files and mounts that it needs. On an error nothing is left of them; else
// the caller ends them with [Prepared.Undo].
func Prepare(s *specs.Spec, o Options) (_ *Prepared, err error) {
	p := &Prepared{Spec: s, id: o.ID}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Undo())
		}
	}()
	if err := errors.Join(CheckID(o.ID), Check(s)); err != nil {
		return nil, err
	}
	if p.Kind, p.Sandbox, err = KindOf(s); err != nil {
		return nil, err
	}
	namespace := ""
	if s.Windows != nil && s.Windows.Network != nil {
		namespace = s.Windows.Network.NetworkNamespace
	}
	s.Windows = nil
	switch p.Kind {
	case Sandbox:
		err = p.sandbox(o, namespace)
	case Workload:
		err = p.workload()
	default:
		err = p.standalone(o, namespace)
	}
	if err != nil {
		return nil, err
	}
	if err := setUser(s); err != nil {
		return nil, err
	}
	s.Linux.CgroupsPath = cgroup.Path(o.ID)
	return p, setDevices(s)
}

func hostname(s *specs.Spec, o Options) string {
	if s.Hostname != "" {
		return s.Hostname
	}
	return o.Hostname
}

func (p *Prepared) standalone(o Options, namespace string) error {
	dns, err := p.joinNetwork(o, namespace)
	if err != nil {
		return err
	}
	dir := Dir(o.ID)
	p.dirs = append(p.dirs, dir)
	if err := writeFiles(dir, hostname(p.Spec, o), dns, p.Spec.Annotations[AnnotationHosts]); err != nil {
		return err
	}
	bindFiles(p.Spec, dir)
	return nil
}

func (p *Prepared) sandbox(o Options, namespace string) error {
	dns, err := p.joinNetwork(o, namespace)
	if err != nil {
		return err
	}
	dir := Dir(o.ID)
	p.dirs = append(p.dirs, dir)
	if err := writeFiles(dir, hostname(p.Spec, o), dns, p.Spec.Annotations[AnnotationHosts]); err != nil {
		return err
	}
	shared := MountsDir(o.ID)
	p.dirs = append(p.dirs, shared)
	d, err := storage.MakeDir(shared, 0o755)
	if err != nil {
		return err
	}
	d.Close()
	// What workloads mount beneath it, the others see.
	if err := unix.Mount(shared, shared, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "bind", Path: shared, Err: err}
	}
	p.mounts = append(p.mounts, shared)
	if err := unix.Mount("", shared, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "share", Path: shared, Err: err}
	}
	bindFiles(p.Spec, dir)
	return nil
}

func (p *Prepared) workload() error {
	s := p.Spec
	if s.Hostname != "" {
		return fmt.Errorf("%w: workload container must not change hostname: %s", ErrSpec, clip(s.Hostname))
	}
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if !strings.HasPrefix(m.Source, sandboxScheme) {
			continue
		}
		path, err := sandboxPath(p.Sandbox, m.Source)
		if err == nil {
			m.Source, err = p.pin(path, i)
		}
		if err != nil {
			return err
		}
	}
	bindFiles(s, Dir(p.Sandbox))
	return nil
}

// pinned is where the agent keeps binds of folders that containers can change.
const pinned = storage.StateDir + "/binds"

// pin makes the folder and binds it where no container can put a link in
// between, and returns that place.
func (p *Prepared) pin(path string, n int) (string, error) {
	dir, err := storage.MakeDir(path, 0o755)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	place := filepath.Join(pinned, p.id, strconv.Itoa(n))
	if err := os.MkdirAll(place, 0o700); err != nil {
		return "", err
	}
	p.dirs = append(p.dirs, filepath.Dir(place), place)
	from := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd()))
	if err := unix.Mount(from, place, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return "", &os.PathError{Op: "bind", Path: path, Err: err}
	}
	p.mounts = append(p.mounts, place)
	return place, nil
}

// Undo removes what Prepare has made. A second call does nothing. A folder
// that somebody else keeps something in stays.
func (p *Prepared) Undo() error {
	var errs []error
	for i := len(p.mounts) - 1; i >= 0; i-- {
		errs = append(errs, storage.UnmountBeneath(p.mounts[i]))
	}
	for i := len(p.dirs) - 1; i >= 0; i-- {
		for _, name := range fileNames {
			if p.dirs[i] == Dir(p.id) {
				os.Remove(filepath.Join(p.dirs[i], name))
			}
		}
		os.Remove(p.dirs[i]) // stays unless it is empty
	}
	p.mounts, p.dirs = nil, nil
	if p.leave != nil {
		p.leave()
	}
	return errors.Join(errs...)
}

// setUser gives the process the user that an annotation, or the specification
// itself, names.
func setUser(s *specs.Spec) error {
	name, ok := s.Annotations[AnnotationUser]
	if !ok {
		name = s.Process.User.Username
	}
	if name == "" {
		return nil
	}
	return SetUser(s.Process, s.Root.Path, name)
}
