//go:build linux

package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// AddVPMem mounts a persistent-memory device read-only.
func AddVPMem(d hcsschema.LCOWMappedVPMemDevice, modules Loader) error {
	if d.MountPath == "" {
		return fmt.Errorf("%w: it is empty", ErrPath)
	}
	deadline := time.Now().Add(deviceWait)
	return mountAt(d.MountPath, 0o700, func(at string) error {
		dev, err := FindVPMem(deadline, d.DeviceNumber)
		if err != nil {
			return err
		}
		return Mount(deadline, MountRequest{Device: dev, Target: at, ReadOnly: true, DAX: true, Modules: modules})
	})
}

// RemoveVPMem unmounts a persistent-memory device.
func RemoveVPMem(d hcsschema.LCOWMappedVPMemDevice) error { return Unmount(d.MountPath) }

// FindVPMem returns the device node of a persistent-memory device.
func FindVPMem(deadline time.Time, number uint32) (string, error) {
	if number >= place.MaxVPMem {
		return "", fmt.Errorf("there is no persistent-memory device %d: numbers are below %d", number, place.MaxVPMem)
	}
	at := place.VPMem(int(number))
	// A machine without our first port is not of byre's making. There the
	// devices have the kernel's numbers, as the reference has it.
	port, err := filepath.Glob(sysfs + place.VPMem(0)[:1].Sysfs()[len("/sys"):])
	if err != nil {
		return "", err
	}
	if len(port) == 0 {
		return fmt.Sprintf("/dev/pmem%d", number), nil
	}
	pattern := sysfs + at.Sysfs()[len("/sys"):] + "/virtio*/ndbus*/region*/*/block/pmem*"
	var dev string
	err = devices.wait(deadline, func() (bool, error) {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) > 1 {
			return true, fmt.Errorf("%d devices at %s: %w", len(found), pattern, err)
		}
		if len(found) == 0 {
			return false, nil
		}
		dev = "/dev/" + filepath.Base(found[0])
		_, err = os.Stat(dev)
		return err == nil, err
	})
	if err != nil {
		return "", fmt.Errorf("looking for persistent-memory device %d: %w", number, err)
	}
	return dev, nil
}
