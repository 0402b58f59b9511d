//go:build linux

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/byrevm/byre/internal/guest/modules"
)

func TestColdplug(t *testing.T) {
	sys := t.TempDir()
	device := func(bus, name, alias string, driven bool) {
		t.Helper()
		dir := filepath.Join(sys, "bus", bus, "devices", name)
		err := os.MkdirAll(dir, 0o755)
		if err == nil && alias != "" {
			err = os.WriteFile(filepath.Join(dir, "modalias"), []byte(alias+"\n"), 0o644)
		}
		if err == nil && driven {
			err = os.Symlink("/nope", filepath.Join(dir, "driver"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	device("pci", "0000:00:00.0", "pci:bridge", false)
	device("pci", "0000:00:02.0", "pci:vsock", true)
	device("pci", "0000:00:05.0", "pci:screen", false)
	device("pci", "0000:00:06.0", "", false)
	device("virtio", "virtio3", "virtio:balloon", false)
	device("virtio", "virtio4", "virtio:d0000001Av00001AF4", false) // shares
	device("vmbus", "2dd1ce17-079e-403c-b352-a1921ee207ee", "vmbus:time", false)
	device("vmbus", "df6d0690-79e5-55b6-a5ec-c1e2f77f580a", "vmbus:scsi", true)
	device("usb", "1-1", "usb:stick", false)

	var asked []string
	broken := errors.New("broken")
	err := coldplug(sys, func(alias string) error {
		asked = append(asked, alias)
		switch alias {
		case "pci:bridge":
			return fmt.Errorf("%w: %s", modules.ErrNotFound, alias)
		case "pci:screen":
			return broken
		}
		return nil
	})
	if got, want := fmt.Sprint(asked), "[pci:bridge pci:screen virtio:balloon vmbus:time]"; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	if !errors.Is(err, broken) || errors.Is(err, modules.ErrNotFound) {
		t.Errorf("got %v, want the failure only", err)
	}
}
