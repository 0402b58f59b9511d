//go:build linux

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/byrevm/byre/internal/guest/modules"
)

// shares begins the alias of a virtio-fs device. Every machine has one, and only
// who mounts a share needs its driver.
const shares = "virtio:d0000001A"

// unclaimed returns the aliases of the devices below sys, the mount of sysfs,
// that no driver has: of those that only some machines have, such as a balloon
// or a screen. A device that goes while one looks has none.
func unclaimed(sys string) []string {
	var aliases []string
	for _, bus := range []string{"pci", "virtio", "vmbus"} {
		devices, _ := filepath.Glob(filepath.Join(sys, "bus", bus, "devices", "*"))
		for _, d := range devices {
			if _, err := os.Lstat(filepath.Join(d, "driver")); err == nil {
				continue
			}
			if b, err := os.ReadFile(filepath.Join(d, "modalias")); err == nil && !strings.HasPrefix(string(b), shares) {
				aliases = append(aliases, strings.TrimSpace(string(b)))
			}
		}
	}
	return aliases
}

// coldplug inserts the modules of the devices that the machine has from its
// start. A device that nothing in the image drives, as most of a chipset, is
// no error.
func coldplug(sys string, request func(alias string) error) error {
	var errs []error
	for _, a := range unclaimed(sys) {
		if err := request(a); err != nil && !errors.Is(err, modules.ErrNotFound) {
			errs = append(errs, fmt.Errorf("driving a device: %w", err))
		}
	}
	return errors.Join(errs...)
}
