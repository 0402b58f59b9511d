//go:build linux

package modules

import (
	"os"
	"path/filepath"
	"strings"
)

// Kinds of machines, as on= of the index has them.
const (
	hyperV = "hyperv" // the devices are on Hyper-V's VMBus
	virtio = "virtio" // any other
)

// machineKind tells what kind of machine this is from sys, the mount of sysfs:
// Hyper-V's ACPI tables have a device for its VMBus, which is also what the
// driver of that needs. The two must not be taken for each other: the first
// vsock transport towards the host that is inserted keeps the second out.
func machineKind(sys string) string {
	dir := filepath.Join(sys, "bus/acpi/devices")
	devices, err := os.ReadDir(dir)
	if err != nil {
		return virtio
	}
	for _, d := range devices {
		// Hundreds of slots for hot-plug, which have no id, and what the
		// kernel itself has made up.
		if strings.HasPrefix(d.Name(), "device:") || strings.HasPrefix(d.Name(), "LNX") {
			continue
		}
		// acpi:VMBUS: or, with an id of its own before that, acpi:MSFT1000:VMBUS:
		b, err := os.ReadFile(filepath.Join(dir, d.Name(), "modalias"))
		if err == nil && strings.Contains(strings.ToUpper(string(b)), ":VMBUS:") {
			return hyperV
		}
	}
	return virtio
}
