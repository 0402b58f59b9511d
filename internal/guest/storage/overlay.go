//go:build linux

package storage

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

// maxLayers is overlayfs's limit.
const maxLayers = 500

// CombineLayers mounts the union of layers, read-only without a scratch.
func CombineLayers(c hcsschema.CombinedLayers, modules Loader) error {
	if len(c.Layers) == 0 || len(c.Layers) > maxLayers {
		return fmt.Errorf("%d layers: there are 1 to %d in a union", len(c.Layers), maxLayers)
	}
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	keep := func(f *os.File, err error) (string, error) {
		if err != nil {
			return "", err
		}
		open = append(open, f)
		return fdPath(f), nil
	}
	var lower []string
	for _, l := range c.Layers {
		if err := CheckPath(l.Path); err != nil {
			return err
		}
		p, err := keep(OpenDir(l.Path))
		if err != nil {
			return fmt.Errorf("opening a layer: %w", err)
		}
		lower = append(lower, p)
	}
	var upper, work string
	if c.ScratchPath != "" {
		err := CheckPath(c.ScratchPath)
		if err == nil {
			upper, err = keep(MakeDir(c.ScratchPath+"/upper", 0o755))
		}
		if err == nil {
			work, err = keep(MakeDir(c.ScratchPath+"/work", 0o755))
		}
		if err != nil {
			return fmt.Errorf("preparing the scratch: %w", err)
		}
	}
	if len(lower) == 1 && upper == "" {
		// overlayfs makes no union of one; the layer itself is the same.
		return mountAt(c.ContainerRootPath, 0o755, func(at string) error { return bindReadOnly(lower[0], at) })
	}
	data, err := overlayData(lower, upper, work)
	if err != nil {
		return err
	}
	if modules != nil {
		if err := modules.Insert("overlay"); err != nil {
			return err
		}
	}
	var flags uintptr
	if upper == "" {
		flags = unix.MS_RDONLY
	}
	return mountAt(c.ContainerRootPath, 0o755, func(at string) error {
		if err := unix.Mount("overlay", at, "overlay", flags, data); err != nil {
			return fmt.Errorf("mounting the union of %d layers: %w", len(lower), err)
		}
		return nil
	})
}

// overlayData returns the option string. The paths are names of open files:
// they are short, so that the string fits the page that the kernel takes, and
// nothing in them needs escaping.
func overlayData(lower []string, upper, work string) (string, error) {
	data := "lowerdir=" + strings.Join(lower, ":")
	if upper != "" {
		data += ",upperdir=" + upper + ",workdir=" + work
	}
	if len(data) >= os.Getpagesize() {
		return "", fmt.Errorf("%d layers: their option string has %d bytes and the kernel takes %d", len(lower), len(data), os.Getpagesize()-1)
	}
	return data, nil
}

// bindReadOnly mounts the folder from, read-only, at at.
func bindReadOnly(from, at string) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	err = unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS)
	return os.NewSyscallError("move_mount", err)
}

// RemoveLayers unmounts a union. The scratch keeps what was written.
func RemoveLayers(c hcsschema.CombinedLayers) error { return Unmount(c.ContainerRootPath) }
