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

	"github.com/byrevm/byre/internal/place"
)

// kernel stands for modprobe: it gives the functions their driver.
type kernel struct {
	folder string
	err    error
}

func (k kernel) Request(alias string) error {
	if alias != "pci:v1" {
		return errors.New("no such module")
	}
	return errors.Join(k.err, os.Symlink("../drivers/nic", filepath.Join(k.folder, "driver")))
}

func TestWait(t *testing.T) {
	root := t.TempDir()
	id, err := place.NewDeviceID(2)
	if err != nil {
		t.Fatal(err)
	}
	port := filepath.Join(root, filepath.Dir(strings.ReplaceAll(place.Assigned(2).Sysfs(), "??", "05")))
	first, second := filepath.Join(port, "0000:05:00.0"), filepath.Join(port, "0000:05:00.3")
	var out bytes.Buffer
	b := bus{root: root, modules: kernel{folder: first}, log: slog.New(slog.NewTextHandler(&out, nil))}
	if err := b.wait(id.String(), time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("waited for nothing: %v", err)
	}
	// The kernel has found the first function, and looks for others.
	if err := os.MkdirAll(first, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := b.wait(id.String(), time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("did not wait for all functions: %v", err)
	}
	go func() {
		for _, f := range []string{second, filepath.Join(root, "proc/bus/pci/05/00.0")} {
			if err := os.MkdirAll(f, 0o755); err != nil {
				t.Error(err)
			}
		}
	}()
	if err := b.wait(id.String(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "PCI device appeared"); got != 2 {
		t.Errorf("logged\n%s", &out)
	}
	for name, text := range map[string]string{"vendor": "0x1234\n", "device": "0x5678\n", "class": "0x020000\n", "modalias": "pci:v1\n"} {
		if err := os.WriteFile(filepath.Join(first, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(second, "modalias"), []byte("pci:v2"), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	for range 2 { // the second time it has its driver
		if err := b.wait(id.String(), time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(out.String(), "address=0000:05:00.0 vendor=0x1234 device=0x5678 class=0x020000 driver=nic"); got != 2 {
		t.Errorf("logged\n%s", &out)
	}
	if got := strings.Count(out.String(), "has no driver here\" address=0000:05:00.3"); got != 2 {
		t.Errorf("logged\n%s", &out)
	}
	for _, bad := range []string{"", "x", "99999999-0000-4000-8000-0000000000ff"} {
		if err := b.wait(bad, time.Now()); err == nil {
			t.Errorf("%q was waited for", bad)
		}
	}
}
