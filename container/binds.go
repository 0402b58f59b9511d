package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/uvm"
)

// sandboxPrefix begins the source of a mount that lies in the guest itself.
const sandboxPrefix = "sandbox://"

// A bind is a mount of a file, folder or socket of the host.
type bind struct {
	index    int    // of the mount in the spec
	socket   string // what is shared, if it is one
	dir      string // the folder that is shared, else
	file     string // the only name of it that is, if not ""
	readOnly bool
}

// binds returns what of the host a spec mounts. It refuses what the guest
// cannot get.
func binds(mounts []specs.Mount) ([]bind, error) {
	var all []bind
	for i, m := range mounts {
		if !isBind(m) || strings.HasPrefix(m.Source, sandboxPrefix) {
			continue
		}
		b, err := newBind(m)
		if err != nil {
			return nil, fmt.Errorf("mounting %q at %q: %w", m.Source, m.Destination, err)
		}
		b.index = i
		all = append(all, b)
	}
	return all, nil
}

// isBind reports whether a mount is one of what is there already: the runtime
// looks at the options, other programs at the type.
func isBind(m specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

func newBind(m specs.Mount) (bind, error) {
	if m.Source == "" || m.Destination == "" {
		return bind{}, errors.New("a mount needs a source and a destination")
	}
	if uvm.IsPipe(m.Source) || uvm.IsPipe(m.Destination) {
		return bind{}, fmt.Errorf("a Linux container has no Windows pipes: %w", hcs.ErrNotSupported)
	}
	if !filepath.IsAbs(m.Source) {
		return bind{}, errors.New("the source is not an absolute path")
	}
	source, err := filepath.EvalSymlinks(m.Source) // a file is shared under its own name
	if err != nil {
		return bind{}, err
	}
	fi, err := os.Stat(source)
	if err != nil {
		return bind{}, err
	}
	b := bind{dir: source, readOnly: readOnlyMount(m)}
	switch {
	case fi.IsDir():
	case fi.Mode().IsRegular():
		b.dir, b.file = filepath.Split(source)
	case fi.Mode().Type() == fs.ModeSocket:
		return bind{socket: source}, nil
	default:
		return bind{}, errors.New("the source is neither a folder, nor a regular file, nor a socket")
	}
	return b, nil
}

func readOnlyMount(m specs.Mount) bool {
	return slices.ContainsFunc(m.Options, func(o string) bool { return strings.EqualFold(o, "ro") })
}

// addBinds shares what of the host the spec mounts, below root, and has the
// mounts begin there. The spec is the guest's; all are those of its mounts.
func (k *Container) addBinds(ctx context.Context, spec *specs.Spec, all []bind, root string) error {
	for i, b := range all {
		m := &spec.Mounts[b.index]
		if !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			m.Options = append(m.Options, "rbind")
		}
		m.Type = "bind"
		if b.socket != "" {
			if err := k.addSocket(ctx, m, b.socket); err != nil {
				return fmt.Errorf("mounting %s at %s: %w", m.Source, m.Destination, err)
			}
			continue
		}
		at := path.Join(root, "mounts", fmt.Sprintf("m%d", i))
		var names []string
		if b.file != "" {
			names = []string{b.file}
		}
		share, err := k.vm.AddPlan9(ctx, b.dir, at, b.readOnly, b.file != "", names)
		if err != nil {
			return fmt.Errorf("mounting %s at %s: %w", m.Source, m.Destination, err)
		}
		k.push("taking "+m.Source+" back", share.Release)
		m.Source = path.Join(at, b.file)
	}
	return nil
}

// addSocket shares a socket of the host and has the mount begin where the
// guest has it.
func (k *Container) addSocket(ctx context.Context, m *specs.Mount, socket string) error {
	pipe, err := k.vm.AddPipe(ctx, socket)
	if err != nil {
		return err
	}
	k.push("taking "+m.Source+" back", pipe.Release)
	if pipe.UVMPath() == "" {
		return fmt.Errorf("the guest's agent shares no sockets: %w", hcs.ErrNotSupported)
	}
	m.Source = pipe.UVMPath()
	return nil
}
