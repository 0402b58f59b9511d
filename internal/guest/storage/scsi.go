//go:build linux

package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// deviceWait is how long a device may take to appear and to become ready.
const deviceWait = 10 * time.Second

// sysfs is a variable for tests.
var sysfs = "/sys"

// AddDisk mounts a SCSI disk. Without MountPath it does nothing.
func AddDisk(d hcsschema.LCOWMappedVirtualDisk, modules Loader) error {
	if err := checkAddress(d); err != nil || d.MountPath == "" {
		return err
	}
	deadline := time.Now().Add(deviceWait)
	return mountAt(d.MountPath, 0o700, func(at string) error {
		for {
			dev, err := findDisk(deadline, int(d.Controller), int(d.Lun))
			if err != nil {
				return err
			}
			// The kernel hears of disks that come and go in any order: what is
			// found may be the disk that was there before, about to go.
			gone := func() bool { return !isDisk(int(d.Controller), int(d.Lun), dev) }
			err = Mount(deadline, MountRequest{Device: dev, Target: at, ReadOnly: d.ReadOnly, Modules: modules, Gone: gone})
			if !gone() {
				return err
			}
			if err == nil {
				if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
					return &os.PathError{Op: "unmount", Path: dev, Err: err}
				}
				err = &os.PathError{Op: "mount", Path: dev, Err: unix.ENODEV}
			}
			if time.Now().After(deadline) {
				return err
			}
		}
	})
}

// RemoveDisk unmounts a SCSI disk, if it has a MountPath, and makes the kernel
// forget it.
func RemoveDisk(d hcsschema.LCOWMappedVirtualDisk) error {
	if err := checkAddress(d); err != nil {
		return err
	}
	if d.MountPath != "" {
		if err := Unmount(d.MountPath); err != nil {
			return err
		}
	}
	return forget(int(d.Controller), int(d.Lun))
}

func checkAddress(d hcsschema.LCOWMappedVirtualDisk) error {
	if int(d.Controller) >= place.MaxSCSIControllers || int(d.Lun) >= place.MaxLUNs {
		return fmt.Errorf("there is no SCSI disk %d:%d: controllers are below %d, LUNs below %d",
			d.Controller, d.Lun, place.MaxSCSIControllers, place.MaxLUNs)
	}
	return nil
}

// findDisk returns the device node of a SCSI disk.
func findDisk(deadline time.Time, controller, lun int) (string, error) {
	looked, seen := false, false
	var dev string
	err := devices.wait(deadline, func() (bool, error) {
		at, err := diskAddress(controller, lun)
		if err != nil {
			return !isNotReady(err), err
		}
		blocks := filepath.Join(at.dir(), "block")
		entries, err := os.ReadDir(blocks)
		switch {
		case len(entries) == 1 && !isEmpty(filepath.Join(blocks, entries[0].Name())) && !isDead(at.dir()):
			dev = "/dev/" + entries[0].Name()
			return true, nil
		case len(entries) == 1:
			if err := at.forget(); err != nil {
				return true, err
			}
			looked = false
		case len(entries) > 1:
			return true, fmt.Errorf("%s has %d disks", blocks, len(entries))
		case err != nil && !isNotReady(err):
			return true, err
		}
		_, err = os.Stat(at.dir())
		if seen && err != nil {
			looked = false // it was the disk before
		}
		seen = err == nil
		if !looked {
			// A disk that was plugged in before the controller's driver came
			// is not seen until somebody looks.
			looked = at.scan()
		}
		return false, nil
	})
	if err != nil {
		return "", fmt.Errorf("looking for SCSI disk %d:%d: %w", controller, lun, err)
	}
	return dev, nil
}

// isEmpty reports whether a disk has no sectors. The kernel was asking a disk for
// its size when the host took that away, and keeps what it got: the next disk
// of that address would never be seen.
func isEmpty(block string) bool {
	b, err := os.ReadFile(filepath.Join(block, "size"))
	return err == nil && strings.TrimSpace(string(b)) == "0"
}

// isDead reports whether a disk can never be read again: it is on its way out,
// or the kernel has given it up.
func isDead(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "state"))
	switch strings.TrimSpace(string(b)) {
	case "offline", "transport-offline", "cancel", "deleted":
		return err == nil
	}
	return false
}

// isDisk reports whether dev is still the disk of an address.
func isDisk(controller, lun int, dev string) bool {
	at, err := diskAddress(controller, lun)
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(at.dir(), "block", filepath.Base(dev)))
	return err == nil && !isDead(at.dir())
}

// forget makes the kernel forget a disk, if it has one of that address.
func forget(controller, lun int) error {
	at, err := diskAddress(controller, lun)
	if err == nil {
		err = at.forget()
	}
	if err != nil && !isNotReady(err) {
		return fmt.Errorf("ejecting disk %d:%d: %w", controller, lun, err)
	}
	return nil
}
