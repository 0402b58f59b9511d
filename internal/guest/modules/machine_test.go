//go:build linux

package modules

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestMachineKind(t *testing.T) {
	for name, c := range map[string]struct {
		devices map[string]string // modalias, by name
		want    string
	}{
		"no ACPI":       {nil, virtio},
		"QEMU":          {map[string]string{"PNP0A08:00": "acpi:PNP0A08:PNP0A03:\n", "device:01": "", "LNXCPU:00": "acpi:LNXCPU:\n"}, virtio},
		"Hyper-V":       {map[string]string{"ACPI0012:00": "acpi:ACPI0012:\n", "VMBUS:00": "acpi:VMBUS:\n"}, hyperV},
		"Hyper-V, old":  {map[string]string{"VMBus:00": "acpi:VMBus:\n"}, hyperV},
		"Hyper-V, new":  {map[string]string{"MSFT1000:00": "acpi:MSFT1000:VMBUS:\n"}, hyperV},
		"another's bus": {map[string]string{"XVMBUS:00": "acpi:XVMBUS:\n"}, virtio},
	} {
		t.Run(name, func(t *testing.T) {
			sys := t.TempDir()
			for d, alias := range c.devices {
				dir := filepath.Join(sys, "bus/acpi/devices", d)
				err := os.MkdirAll(dir, 0o755)
				if alias != "" {
					err = errors.Join(err, os.WriteFile(filepath.Join(dir, "modalias"), []byte(alias), 0o600))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if got := machineKind(sys); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
