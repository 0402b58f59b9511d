//go:build linux

package boot

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

type mount struct {
	target, fstype string
	flags          uintptr
	data           string
}

// base is what every program expects; later is what only containers need.
var (
	base = []mount{
		{"/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}
	later = []mount{
		{"/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666,gid=5"},
		{"/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "nsdelegate"},
	}
)

// mountAll goes on past a failure. A target that has the file system already
// is no failure.
func mountAll(list []mount) error {
	var errs []error
	for _, m := range list {
		err := unix.Mount(m.fstype, m.target, m.fstype, m.flags, m.data)
		if errors.Is(err, unix.ENOENT) {
			if err = os.MkdirAll(m.target, 0o755); err == nil {
				err = unix.Mount(m.fstype, m.target, m.fstype, m.flags, m.data)
			}
		}
		if err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("mounting %s: %w", m.target, err))
		}
	}
	return errors.Join(errs...)
}

// devLinks are links that programs expect in /dev.
var devLinks = [][2]string{
	{"/proc/self/fd", "/dev/fd"},
	{"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"},
	{"/proc/self/fd/2", "/dev/stderr"},
}

func linkDevices() error {
	var errs []error
	for _, l := range devLinks {
		if err := os.Symlink(l[0], l[1]); err != nil && !errors.Is(err, os.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// onInitramfs tells whether the root is the file system that the kernel
// unpacked the initrd to.
func onInitramfs() bool {
	var st unix.Statfs_t
	if unix.Statfs("/", &st) != nil {
		return false
	}
	return st.Type == unix.RAMFS_MAGIC || st.Type == unix.TMPFS_MAGIC
}

// AttachRoot makes the initial file system pivotable: pivot_root(2) refuses a
// root that is not mounted on anything, as the kernel's own is. A bind mount
// of it that is moved over it is, costs no copy, and lets runc use pivot_root
// in place of the weaker chroot. The mounts beneath it come along.
func AttachRoot() error {
	const at = "/mnt"
	if err := unix.Mount("/", at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding the root: %w", err)
	}
	return moveRoot(at)
}

// RootAttached tells, by a file in the format of /proc/self/mountinfo, whether
// the root is mounted on something.
func RootAttached(mountinfo string) (bool, error) {
	b, err := os.ReadFile(mountinfo)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(b)) {
		// id parent major:minor root mount-point …
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" && f[0] == f[1] {
			return false, nil
		}
	}
	// The kernel's own root is not listed when another is mounted over it.
	return true, nil
}

// moveRoot makes the mount at the root of this process.
func moveRoot(at string) error {
	if err := unix.Chdir(at); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the new root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	return unix.Chdir("/")
}

// setHostname names the VM after /etc/hostname, if there is one.
func setHostname() error {
	name := "byre"
	if b, err := os.ReadFile("/etc/hostname"); err == nil {
		if s := strings.TrimSpace(string(b)); s != "" {
			name = s
		}
	}
	return unix.Sethostname([]byte(name))
}

// limits gives every program the number of open files that the reference's
// init gives.
func limits() error {
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1024, Max: 1 << 20})
}
