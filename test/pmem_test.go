//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/uvm"
)

// addLayer adds persistent memory and returns where it is.
func addLayer(ctx context.Context, t testing.TB, vm *uvm.UtilityVM, path string) string {
	t.Helper()
	at, err := vm.AddVPMEM(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func removeLayer(ctx context.Context, t testing.TB, vm *uvm.UtilityVM, path string) {
	t.Helper()
	if err := vm.RemoveVPMEM(ctx, path); err != nil {
		t.Fatal(err)
	}
}

// Persistent memory of all kinds, in one VM.
func TestPersistentMemory(t *testing.T) {
	ctx := begin(t)
	o := shellOptions(t)
	o.VPMemDeviceCount, o.VPMemSizeBytes = 4, 4<<20
	vm := boot(ctx, t, o)
	images := newImages(t, 6)
	step(t, "refused", func(ctx context.Context, t *testing.T) {
		dir := t.TempDir()
		fixed, dynamic, odd := filepath.Join(dir, "fixed"), filepath.Join(dir, "dynamic"), filepath.Join(dir, "odd")
		tool(t, "qemu-img", "convert", "-O", "vpc", "-o", "subformat=fixed,force_size", "-f", "raw", images[0], fixed)
		tool(t, "qemu-img", "convert", "-O", "vpc", "-o", "subformat=dynamic,force_size", "-f", "raw", images[0], dynamic)
		exact, large, blank := filepath.Join(dir, "exact"), filepath.Join(dir, "large"), filepath.Join(dir, "blank")
		for path, size := range map[string]int64{odd: 2<<20 + 4096, exact: 4 << 20, large: 4<<20 + 1, blank: 2 << 20} {
			if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, size)); err != nil {
				t.Fatal(err)
			}
		}
		for path, want := range map[string]string{
			filepath.Join(dir, "none"): "no such file", dir: "", dynamic: "dynamic", odd: "2 MiB",
		} {
			if at, err := vm.AddVPMEM(ctx, path); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %q, %v, want %q", path, at, err, want)
			}
		}
		if _, err := vm.AddVPMEM(ctx, large); err != uvm.ErrMaxVPMEMLayerSize {
			t.Errorf("got %v, want %v", err, uvm.ErrMaxVPMEMLayerSize)
		}
		// Nothing is taken by what the host refused; what the guest refused has
		// its slot, as it cannot be unplugged.
		if at := addLayer(ctx, t, vm, fixed); at != "/run/layers/p0" {
			t.Errorf("a fixed VHD is at %s", at)
		}
		says(ctx, t, vm, "cat /run/layers/p0/f", "number 000")
		removeLayer(ctx, t, vm, fixed)
		if _, err := vm.AddVPMEM(ctx, exact); err == nil || errors.Is(err, uvm.ErrMaxVPMEMLayerSize) {
			t.Errorf("an image of the full size without a file system: got %v", err)
		}
		says(ctx, t, vm, "ls -d /run/layers/* 2>/dev/null | wc -l; ls -d /sys/block/pmem* | wc -l", "0\n2\n")
	})
	step(t, "shared", func(ctx context.Context, t *testing.T) {
		unchanged(t, images[0])
		for range 128 { // case 12
			if at := addLayer(ctx, t, vm, images[0]); at != "/run/layers/p2" {
				t.Fatalf("at %s", at)
			}
		}
		says(ctx, t, vm, "cat /run/layers/p2/f; grep -c 'p2 ext4 ro,.*dax=always' /proc/mounts; ls -d /sys/block/pmem* | wc -l", "number 0001\n3\n")
		if _, err := vm.AddSCSI(ctx, images[0], "", false, uvm.VMAccessTypeIndividual); err != uvm.ErrAlreadyAttached {
			t.Errorf("the same file as a writable disk: got %v, want %v", err, uvm.ErrAlreadyAttached)
		}
		for range 127 {
			removeLayer(ctx, t, vm, images[0])
		}
		says(ctx, t, vm, "cat /run/layers/p2/f", "number 000")
		removeLayer(ctx, t, vm, images[0])
		says(ctx, t, vm, "ls -d /run/layers/* 2>/dev/null | wc -l", "0\n")
		if err := vm.RemoveVPMEM(ctx, images[0]); err != uvm.ErrNotAttached {
			t.Errorf("got %v, want %v", err, uvm.ErrNotAttached)
		}
	})
	step(t, "written to", func(ctx context.Context, t *testing.T) {
		unchanged(t, images[0])
		at := addLayer(ctx, t, vm, images[0])
		says(ctx, t, vm, "echo x 2>/dev/null >"+at+"/f || echo read-only", "read-only\n")
		// The guest's kernel does not know that the memory is read-only.
		says(ctx, t, vm, "for d in /dev/pmem*; do dd if=/dev/urandom of=$d bs=64k conv=fsync 2>/dev/null; done; /bin/guest scribble /dev/pmem* >/dev/null; true", "")
		removeLayer(ctx, t, vm, images[0])
		if at := addLayer(ctx, t, vm, images[0]); at != "/run/layers/p2" {
			t.Errorf("at %s", at)
		}
		removeLayer(ctx, t, vm, images[0])
	})
	step(t, "slots", func(ctx context.Context, t *testing.T) {
		if at := addLayer(ctx, t, vm, images[1]); at != "/run/layers/p3" {
			t.Errorf("at %s", at)
		}
		removeLayer(ctx, t, vm, images[1])
		// Every slot belongs to a file now, and these are others.
		if _, err := vm.AddVPMEM(ctx, images[2]); err != uvm.ErrNoAvailableLocation {
			t.Errorf("got %v, want %v", err, uvm.ErrNoAvailableLocation)
		}
		if err := os.WriteFile(images[0], []byte(fmt.Sprintf("%2097152s", "changed")), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := vm.AddVPMEM(ctx, images[0]); err != uvm.ErrNoAvailableLocation {
			t.Errorf("a file that has changed: got %v, want %v", err, uvm.ErrNoAvailableLocation)
		}
		m, err := vm.AddSCSI(ctx, images[2], "/run/mounts/m", true, uvm.VMAccessTypeIndividual) // as callers do then
		if err != nil {
			t.Fatal(err)
		}
		says(ctx, t, vm, "cat /run/mounts/m/f", "number 002")
		if err := m.Release(ctx); err != nil {
			t.Error(err)
		}
		addLayer(ctx, t, vm, images[1])
		says(ctx, t, vm, "cat /run/layers/p3/f", "number 001")
		removeLayer(ctx, t, vm, images[1])
	})
	if err := vm.ExitError(); err == nil || errors.Is(err, hcs.ErrStopped) {
		t.Errorf("the VM has ended: %v", err)
	}
}

// A guest whose program offers addresses of persistent memory as receive
// buffers of the vsock device. The device refuses them, and the file is what
// it was.
func TestPersistentMemoryAsBuffer(t *testing.T) {
	ctx := begin(t)
	image := newImages(t, 1)[0]
	unchanged(t, image)
	o := guestOptions(t, guestProgram+" poison")
	o.VPMemDeviceCount, o.VPMemSizeBytes = 1, imageSize
	o.AdditionHCSDocumentJSON = fmt.Sprintf(`{"VirtualMachine":{"Devices":{"VirtualPMem":{"Devices":{"0":{"HostPath":%q,"ReadOnly":true,"ImageFormat":"Vhd1"}}}}}}`, image)
	vm := create(ctx, t, o)
	e := startFails(ctx, t, vm, "")
	// It has got that far only if the device answered to ordinary memory.
	if !strings.Contains(e.Error(), "no such memory, or read-only") {
		t.Errorf("got %v, want the end of the device", e)
	}
}
