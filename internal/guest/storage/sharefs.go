//go:build linux

package storage

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// shareTag is the name of the device that has the shares.
	shareTag = "byre"
	// shareRoot is where its file system is mounted, whose root has an entry
	// for each share. What is bound elsewhere comes from here.
	shareRoot = StateDir + "/shares"
	// virtioFS is the number of the kind of device, as sysfs shows it (VIRTIO
	// 1.2, §5).
	virtioFS = "0x001a"
)

// modulesFS are what the kernel needs for virtio-fs, in order.
var modulesFS = []string{"fuse", "virtiofs"}

// errNoFolder means that there is no device, or not this share on it.
var errNoFolder = errors.New("not on a virtio-fs device")

// mountFolder mounts at a folder the entry of the device's root that has the
// name of the share. The flags of the mount are those that 9P's have. Should
// anything fail, nothing is mounted at the folder.
func mountFolder(name, at string, readOnly bool, modules Loader) error {
	entry := path.Join(shareRoot, name)
	tree, err := copyMount(entry)
	if errors.Is(err, unix.ENOENT) { // not mounted yet, or without this share
		if !hasShareDevice() {
			return fmt.Errorf("%w: the machine has none", errNoFolder)
		}
		if err := mountShares(modules); err != nil {
			return fmt.Errorf("%w: %w", errNoFolder, err)
		}
		if tree, err = copyMount(entry); errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%w: %w", errNoFolder, err)
		}
	}
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if readOnly {
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return &os.PathError{Op: "mount_setattr", Path: entry, Err: err}
		}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_SYMLINKS); err != nil {
		return &os.PathError{Op: "move_mount", Path: entry, Err: err}
	}
	return nil
}

// copyMount returns a descriptor of a copy of the mount of a folder, which is
// nowhere yet, and goes with its descriptor.
func copyMount(dir string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: dir, Err: err}
	}
	return fd, nil
}

// hasShareDevice tells whether the machine has a virtio-fs device.
func hasShareDevice() bool {
	kinds, _ := filepath.Glob(filepath.Join(sysfs, "bus/virtio/devices/*/device"))
	for _, k := range kinds {
		if b, err := os.ReadFile(k); err == nil && strings.TrimSpace(string(b)) == virtioFS {
			return true
		}
	}
	return false
}

// mountShares mounts the device's file system, unless that has been done. Of
// several callers one does it; should it fail the next one tries again. The
// folder is root's alone and the mount propagates nowhere: a container's
// namespace has a copy until runc leaves the old root, and never one of a share
// that comes later.
func mountShares(modules Loader) error {
	defer points.take(shareRoot)()
	dir, err := MakeDir(shareRoot, 0o700)
	if err != nil {
		return err
	}
	defer dir.Close()
	switch err := checkFree(dir); {
	case errors.Is(err, unix.EBUSY): // it is mounted
		return nil
	case err != nil:
		return err
	}
	if modules != nil {
		if err := modules.Insert(modulesFS...); err != nil {
			return errors.Join(err, removeDir(shareRoot))
		}
	}
	if err := unix.Mount(shareTag, fdPath(dir), "virtiofs", 0, ""); err != nil {
		return errors.Join(&os.PathError{Op: "mount virtiofs", Path: shareRoot, Err: err}, removeDir(shareRoot))
	}
	// By its path: the open folder is what lies below the mount now.
	if err := unix.Mount("", shareRoot, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(&os.PathError{Op: "mount private", Path: shareRoot, Err: err}, unix.Unmount(shareRoot, unix.MNT_DETACH))
	}
	return nil
}
