package uvm_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/uvm"
)

var (
	removable = hcstest.Config{Host: hcs.HostInfo{PMemRemovable: true}}
	sticky    = hcstest.Config{Host: hcs.HostInfo{PMemRemovable: false}}
)

// addLayer adds an image that must be added, and checks where.
func (v *testVM) addLayer(path string, slot int) {
	v.t.Helper()
	at, err := v.AddVPMEM(v.t.Context(), path)
	if want := fmt.Sprintf("/run/layers/p%d", slot); err != nil || at != want {
		v.t.Fatalf("added at %s, %v; want %s", at, err, want)
	}
}

func (v *testVM) removeLayer(path string) {
	v.t.Helper()
	if err := v.RemoveVPMEM(v.t.Context(), path); err != nil {
		v.t.Error(err)
	}
}

func TestCase12VPMEMShares(t *testing.T) {
	v := start(t, setup{config: removable})
	a, b := v.disk("a"), v.disk("b")
	for range 128 { // case 12
		v.addLayer(a, 0)
	}
	v.addLayer(b, 1)
	for range 127 {
		v.removeLayer(a)
	}
	v.expect("host Add VirtualPMem/Devices/0", "guest Add VPMemDevice /run/layers/p0",
		"host Add VirtualPMem/Devices/1", "guest Add VPMemDevice /run/layers/p1")
	v.removeLayer(a)
	v.expect("guest Remove VPMemDevice /run/layers/p0", "host Remove VirtualPMem/Devices/0")
	if err := v.RemoveVPMEM(t.Context(), a); err != uvm.ErrNotAttached {
		t.Error(err)
	}
	v.addLayer(a, 0)
	v.removeLayer(a)
	v.removeLayer(b)
	v.empty()
}

func TestVPMEMRefuses(t *testing.T) {
	v := start(t, setup{config: removable, edit: func(o *uvm.OptionsLCOW) { o.VPMemDeviceCount, o.VPMemSizeBytes = 2, 8192 }})
	ctx := t.Context()
	dir := t.TempDir()
	fits := writeFile(t, filepath.Join(dir, "fits"), 8192)
	large := writeFile(t, filepath.Join(dir, "large"), 8193)
	if _, err := v.AddVPMEM(ctx, filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	v.addLayer(fits, 0)
	v.addLayer(v.disk("b"), 1)
	if _, err := v.AddVPMEM(ctx, v.disk("c")); err != uvm.ErrNoAvailableLocation {
		t.Error(err)
	}
	if _, err := v.AddVPMEM(ctx, large); err != uvm.ErrMaxVPMEMLayerSize { // before the search for a slot
		t.Error(err)
	}
	v.addLayer(fits, 0)
	if _, err := new(uvm.UtilityVM).AddVPMEM(ctx, fits); !errors.Is(err, hcs.ErrNotSupported) {
		t.Error(err)
	}
	if err := new(uvm.UtilityVM).RemoveVPMEM(ctx, fits); !errors.Is(err, hcs.ErrNotSupported) {
		t.Error(err)
	}
}

// TestVPMEMSticky checks which slots a host uses that cannot take a device
// out: the one of the same file, then one that was never used, then none.
func TestVPMEMSticky(t *testing.T) {
	v := start(t, setup{config: sticky, edit: func(o *uvm.OptionsLCOW) { o.VPMemDeviceCount = 3 }})
	a, b, c, d := v.disk("a"), v.disk("b"), v.disk("c"), v.disk("d")
	v.addLayer(a, 0)
	v.removeLayer(a)
	v.addLayer(b, 1)
	v.addLayer(a, 0)
	v.removeLayer(a)
	v.removeLayer(b)
	v.addLayer(b, 1)
	v.addLayer(c, 2)
	if _, err := v.AddVPMEM(t.Context(), d); err != uvm.ErrNoAvailableLocation {
		t.Error(err)
	}
	v.addLayer(a, 0)
	v.removeLayer(a)
	// The path now names another file: what the device has is not it.
	if err := os.Chtimes(a, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.AddVPMEM(t.Context(), a); err != uvm.ErrNoAvailableLocation {
		t.Error(err)
	}
}

// TestVPMEMStickyFails checks what becomes of a slot when an Add fails: it is
// kept for the file if the device was there.
func TestVPMEMStickyFails(t *testing.T) {
	v := start(t, setup{config: sticky})
	a, b := v.disk("a"), v.disk("b")
	v.hook.fail(hcstest.OpModify)
	if _, err := v.AddVPMEM(t.Context(), a); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	v.addLayer(b, 0)
	v.hook.fail(guestModify)
	if _, err := v.AddVPMEM(t.Context(), a); err == nil {
		t.Error("added")
	}
	v.hook.set(nil)
	v.addLayer(v.disk("c"), 2)
	v.addLayer(a, 1)
	v.removeLayer(a)
	v.hook.fail(hcstest.OpModify) // its second Add: the device of the first is still there
	if _, err := v.AddVPMEM(t.Context(), a); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	v.addLayer(v.disk("d"), 3)
	v.addLayer(a, 1)
}

func TestVPMEMFails(t *testing.T) {
	for _, op := range []string{hcstest.OpModify, guestModify} {
		t.Run(op, func(t *testing.T) {
			v := start(t, setup{config: removable})
			a := v.disk("a")
			v.hook.fail(op)
			if at, err := v.AddVPMEM(t.Context(), a); at != "" || err == nil {
				t.Errorf("added at %q, %v", at, err)
			}
			if err := v.RemoveVPMEM(t.Context(), a); err != uvm.ErrNotAttached {
				t.Error(err)
			}
			v.hook.set(nil)
			v.empty()
			v.addLayer(a, 0)
			v.hook.fail(op)
			for range 2 {
				if err := v.RemoveVPMEM(t.Context(), a); err == nil {
					t.Error("removed")
				}
			}
			v.hook.set(nil)
			v.addLayer(a, 0) // again, and it works
			if r := v.guest.Resources(v.ID()); len(r) != 1 {
				t.Errorf("the guest has %v", r)
			}
			v.removeLayer(a)
			v.removeLayer(a)
			v.empty()
		})
	}
}

// TestVPMEMBoot checks that the disk that the guest runs from is known by its
// path and never removed.
func TestVPMEMBoot(t *testing.T) {
	var boot string
	v := start(t, setup{config: removable, edit: func(o *uvm.OptionsLCOW) {
		o.RootFSFile, o.PreferredRootFSType = uvm.VhdFile, uvm.PreferredRootFSTypeVHD
		boot = filepath.Join(o.BootFilesPath, uvm.VhdFile)
	}})
	ctx := t.Context()
	if err := v.RemoveVPMEM(ctx, boot); err != uvm.ErrNotAttached {
		t.Error(err)
	}
	for range 2 {
		if at, err := v.AddVPMEM(ctx, boot); at != "/" || err != nil {
			t.Error(at, err)
		}
	}
	v.removeLayer(boot)
	v.removeLayer(boot)
	if err := v.RemoveVPMEM(ctx, boot); err != uvm.ErrNotAttached {
		t.Error(err)
	}
	v.expect()
	v.addLayer(v.disk("a"), 1)
}

func TestVPMEMConcurrent(t *testing.T) {
	v := start(t, setup{config: removable})
	paths := make([]string, 5)
	for i := range paths {
		paths[i] = v.disk(fmt.Sprint(i))
	}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 20 {
				p := paths[(i+j)%len(paths)]
				if _, err := v.AddVPMEM(t.Context(), p); err != nil {
					t.Error(err)
					return
				}
				if err := v.RemoveVPMEM(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	v.empty()
}
