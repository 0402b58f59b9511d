//go:build linux

package pci

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/guest/storage"
	"github.com/byrevm/byre/internal/place"
)

const (
	deviceWait = 10 * time.Second // for the device
	driverWait = 5 * time.Second  // for its driver, which there may not be
)

// A Loader inserts the modules that an alias names.
type Loader interface{ Request(alias string) error }

// A bus is the PCI devices in the sysfs at root.
type bus struct {
	root    string
	modules Loader
	log     *slog.Logger
}

// Wait waits for an assigned device and its driver, and logs what appeared. A
// function that this machine has no driver for is there nonetheless.
func Wait(d hcsschema.LCOWMappedVPCIDevice, modules Loader, log *slog.Logger) error {
	return bus{modules: modules, log: log}.wait(d.VMBusGUID, time.Now().Add(deviceWait))
}

// Gone does nothing: the host takes a device away without a word, and the
// kernel lets go of it.
func Gone(hcsschema.LCOWMappedVPCIDevice) error { return nil }

func (b bus) wait(id string, deadline time.Time) error {
	look, err := b.finder(id)
	if err != nil {
		return err
	}
	var functions []string
	err = storage.WaitDevice(deadline, func() (bool, error) {
		functions, err = look()
		if err == nil && len(functions) == 0 {
			err = fmt.Errorf("PCI device %s has not appeared: %w", id, os.ErrDeadlineExceeded)
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	for _, f := range functions {
		b.log.Info("PCI device appeared", "id", id, "address", filepath.Base(f),
			"vendor", read(f, "vendor"), "device", read(f, "device"), "class", read(f, "class"), "driver", b.drive(f))
	}
	return nil
}

// finder returns the function that looks for the functions of a device.
func (b bus) finder(id string) (func() ([]string, error), error) {
	if _, err := os.Stat(b.vmbus()); err == nil {
		return b.onVMBus(id)
	}
	slot, err := place.DeviceSlot(id)
	return func() ([]string, error) { return b.functions(slot) }, err
}

// functions returns the folders of the functions in a slot: none before all
// are there. The kernel makes the folder of each as it finds it, from the first
// on, and when it has looked for all it tells of them in /proc.
func (b bus) functions(slot int) ([]string, error) {
	first, err := filepath.Glob(b.root + place.Assigned(slot).Sysfs())
	if err != nil || len(first) != 1 {
		return nil, err
	}
	// The domain is 0: 0000:05:00.0 is 05/00.0.
	_, name, _ := strings.Cut(filepath.Base(first[0]), ":")
	if _, err := os.Stat(filepath.Join(b.root, "/proc/bus/pci", strings.Replace(name, ":", "/", 1))); err != nil {
		return nil, nil // not yet
	}
	return filepath.Glob(strings.TrimSuffix(first[0], "0") + "[0-7]")
}

// drive has the kernel find a driver for a function and returns its name, ""
// if there is none.
func (b bus) drive(f string) string {
	if d := driver(f); d != "" {
		return d
	}
	// Nobody else here asks for the modules of a device.
	alias := read(f, "modalias")
	if alias == "" || b.modules == nil {
		return ""
	}
	if err := b.modules.Request(alias); err != nil {
		b.log.Warn("PCI device has no driver here", "address", filepath.Base(f), "err", err)
		return ""
	}
	_ = storage.WaitDevice(time.Now().Add(driverWait), func() (bool, error) {
		if driver(f) == "" {
			return false, errors.New("no driver")
		}
		return true, nil
	})
	return driver(f)
}

func driver(f string) string {
	to, err := os.Readlink(filepath.Join(f, "driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

func read(f, name string) string {
	b, err := os.ReadFile(filepath.Join(f, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
