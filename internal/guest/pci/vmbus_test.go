//go:build linux

package pci

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hyperV stands for modprobe on Hyper-V: the bridge's driver finds the function
// behind it.
type hyperV struct {
	bridge string
	err    error
}

func (k hyperV) Request(alias string) error {
	if alias != "vmbus:1df6c444444400449d52802e27ede19f" || k.err != nil {
		return errors.Join(errors.New("no such module"), k.err)
	}
	return errors.Join(os.MkdirAll(filepath.Join(k.bridge, "pci5d3a:00/5d3a:00:00.0"), 0o755),
		os.Symlink("../drivers/hv_pci", filepath.Join(k.bridge, "driver")))
}

func TestWaitOnVMBus(t *testing.T) {
	// The last byte is no slot of ours.
	const id = "6B1B5D3A-2F4E-4D0C-9A51-0C0F5D1F7CFF"
	root := t.TempDir()
	bridge := filepath.Join(root, "sys/bus/vmbus/devices", strings.ToLower(id))
	if err := os.MkdirAll(filepath.Dir(bridge), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	b := bus{root: root, modules: hyperV{bridge: bridge}, log: slog.New(slog.NewTextHandler(&out, nil))}
	if err := b.wait(id, time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("waited for nothing: %v", err)
	}
	if err := os.Mkdir(bridge, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bridge, "modalias"), []byte("vmbus:1df6c444444400449d52802e27ede19f\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	b.modules = hyperV{bridge: bridge, err: broken}
	if err := b.wait(id, time.Now()); !errors.Is(err, broken) {
		t.Errorf("a bridge without a driver: got %v, want %v", err, broken)
	}
	b.modules = hyperV{bridge: bridge}
	if err := b.wait(id, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "address=5d3a:00:00.0") {
		t.Errorf("logged\n%s", &out)
	}
	for _, bad := range []string{"", "x", "../devices/" + id} {
		if err := b.wait(bad, time.Now()); err == nil {
			t.Errorf("%q was waited for", bad)
		}
	}
}
