package layers

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// Disks are VHDs, and named so, because the Host Compute Service takes nothing
// else.
const (
	vhdDisks = true
	diskExt  = ".vhd"
)

// lockOffset is behind any data: locks of Windows keep others from reading.
const lockOffset = 1 << 30

// tryFlock takes a lock on an open file, or reports that it cannot be had now.
func tryFlock(f *os.File, exclusive bool) (bool, error) {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	at := &windows.Overlapped{OffsetHigh: lockOffset}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, at)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION):
		return false, nil
	}
	return false, fmt.Errorf("locking %s: %w", f.Name(), err)
}

func inodeOf(os.FileInfo) uint64 { return 0 }

func diskUse(fi os.FileInfo) int64 { return fi.Size() }

func freeSpace(dir string) (int64, error) {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, nil, nil); err != nil {
		return 0, fmt.Errorf("asking for the free space of %s: %w", dir, err)
	}
	return int64(free), nil
}

func isNoSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

func checkOwner(string) error { return nil }

func syncDir(string) error { return nil }

// removeHeld closes a file and removes it, which Windows does not do while it
// is open. One that somebody opened in between stays, and is theirs.
func removeHeld(f *os.File) error {
	if err := f.Close(); err != nil {
		return err
	}
	err := os.Remove(f.Name())
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
