package hns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// spacePath is where the network namespace of an endpoint is kept: a file that
// the namespace is mounted on, so that it outlives the process.
func (l *local) spacePath(id string) string { return filepath.Join(l.dir, spacesDir, CanonicalID(id)) }

// makeSpace makes a network namespace of the kernel and keeps it at a path.
func makeSpace(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keeping a network namespace: %w", err)
	}
	f.Close()
	return apart(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("keeping a network namespace: %w", err)
		}
		return nil
	})
}

// apart runs do on a thread that ends with it.
func apart(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // not unlocked
		done <- do()
	}()
	return <-done
}

// inSpace runs do in a network namespace.
func inSpace(path string, do func() error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return apart(func() error {
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering network namespace %s: %w", path, err)
		}
		return do()
	})
}

// isSpace tells whether a network namespace is kept at a path.
func isSpace(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// removeSpace removes a network namespace, or what there is of one. It is gone
// once nobody is in it.
func removeSpace(path string) error {
	// EINVAL: the file is there, the namespace is not.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("removing a network namespace: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a network namespace: %w", err)
	}
	return nil
}
