//go:build linux

package pci

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/Microsoft/go-winio/pkg/guid"
)

// vmbus is the folder of the devices on Hyper-V's VMBus.
func (b bus) vmbus() string { return b.root + "/sys/bus/vmbus/devices" }

// onVMBus looks for a device that is behind a bridge of its own on the VMBus,
// which has the device's id. Without the bridge's driver there is no PCI.
func (b bus) onVMBus(id string) (func() ([]string, error), error) {
	if _, err := guid.FromString(id); err != nil {
		return nil, fmt.Errorf("device id %.40q: %w", id, err)
	}
	bridge := filepath.Join(b.vmbus(), strings.ToLower(id))
	return func() ([]string, error) {
		if _, err := os.Stat(bridge); err != nil {
			return nil, nil // not there yet
		}
		if driver(bridge) == "" && b.modules != nil {
			if err := b.modules.Request(read(bridge, "modalias")); err != nil {
				return nil, fmt.Errorf("driving the bridge of PCI device %s: %w", id, err)
			}
		}
		return filepath.Glob(bridge + "/pci????:??/????:??:??.?")
	}, nil
}
