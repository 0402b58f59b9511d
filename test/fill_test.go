//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/uvm"
)

// Numbers of what one VM holds at a time.
const (
	manyDisks  = 256
	manyLayers = 128
	manyShares = 64
	manyNICs   = 32
)

// As many devices and shares as a VM can have, all of them there at a time;
// they are taken out and added again.
func TestFill(t *testing.T) {
	ctx := begin(t)
	n := session(t)
	o := shellOptions(t)
	o.AllSCSIControllers = true
	o.VPMemDeviceCount, o.VPMemSizeBytes = manyLayers, imageSize
	o.Network = n
	vm := boot(ctx, t, o)
	images := newImages(t, manyDisks+1)
	id, nics := namespace(ctx, t, n, make([]hns.HNSEndpoint, manyNICs)...)
	if err := vm.AddNetNS(ctx, id); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		step(t, fmt.Sprint("fill ", round), func(ctx context.Context, t *testing.T) {
			at := func(i int) string { return fmt.Sprintf("/run/gcs/c/0/scsi%d", i) }
			if round == 0 { // case 8: first attached only
				at = func(int) string { return "" }
			}
			disks := fillSCSI(ctx, t, vm, images, at)
			fillVPMEM(ctx, t, vm, images)
			shares := fillPlan9(ctx, t, vm)
			if err := vm.AddEndpointsToNS(ctx, id, nics); err != nil {
				t.Fatal(err)
			}
			says(ctx, t, vm, "ls -d /sys/block/pmem* | wc -l; grep -c ' /run/layers/p' /proc/mounts; grep -c '^byre /run/mounts/' /proc/mounts; ls -d /sys/bus/virtio/drivers/virtio_net/virtio* | wc -l",
				fmt.Sprintf("%d\n%d\n%d\n%d\n", manyLayers, manyLayers, manyShares+1, manyNICs))
			says(ctx, t, vm, "for i in $(seq 600); do test $(ls -d /sys/block/sd* | wc -l) = 256 && break; busybox sleep 0.1; done; ls -d /sys/block/sd* | wc -l", "256\n")
			if round > 0 {
				says(ctx, t, vm, "cat /run/gcs/c/0/scsi*/f /run/layers/p*/f | busybox tr n '\\n' | busybox sort -u | grep -c umber", "256\n")
			}
			if err := vm.RemoveEndpointsFromNS(ctx, id, nics); err != nil {
				t.Error(err)
			}
			for _, s := range shares {
				if err := s.Release(ctx); err != nil {
					t.Error(err)
				}
			}
			for _, p := range images[:manyLayers] {
				removeLayer(ctx, t, vm, p)
			}
			for range 2 { // each was added twice
				for _, p := range disks {
					if err := vm.RemoveSCSI(ctx, p); err != nil {
						t.Fatal(err)
					}
				}
			}
			says(ctx, t, vm, "ls /sys/block | grep -c sd; ls -d /run/layers/* /run/gcs/c/0/* /run/mounts/* 2>/dev/null | wc -l; grep -c ' /run/mounts/' /proc/mounts; ls /sys/bus/virtio/drivers/virtio_net | grep -c ^virtio; true", "0\n0\n0\n0\n")
		})
	}
	step(t, "a thousand rounds", func(ctx context.Context, t *testing.T) { testLayerRounds(ctx, t, vm, images) })
	if err := vm.RemoveNetNS(ctx, id); err != nil {
		t.Error(err)
	}
}

// fillSCSI adds a disk at every place, twice, and one too many.
func fillSCSI(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, images []string, at func(int) string) []string {
	t.Helper()
	for again := range 2 {
		for i, p := range images[:manyDisks] {
			m, err := vm.AddSCSI(ctx, p, at(i), true, uvm.VMAccessTypeIndividual)
			if err != nil {
				t.Fatalf("disk %d: %v", i, err)
			}
			if m.UVMPath != at(i) || again == 0 && (m.Controller != i/64 || int(m.LUN) != i%64) {
				t.Fatalf("disk %d is %+v", i, m)
			}
		}
	}
	if _, err := vm.AddSCSI(ctx, images[manyDisks], "", true, uvm.VMAccessTypeIndividual); err != uvm.ErrNoAvailableLocation { // case 11
		t.Errorf("one more disk: got %v, want %v", err, uvm.ErrNoAvailableLocation)
	}
	return images[:manyDisks]
}

// fillVPMEM adds a layer in every slot, always the same, and one too many.
func fillVPMEM(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, images []string) {
	t.Helper()
	for i, p := range images[:manyLayers] {
		if at := addLayer(ctx, t, vm, p); at != fmt.Sprintf("/run/layers/p%d", i) {
			t.Fatalf("layer %d is at %s", i, at)
		}
	}
	if _, err := vm.AddVPMEM(ctx, images[manyLayers]); err != uvm.ErrNoAvailableLocation {
		t.Errorf("one more layer: got %v, want %v", err, uvm.ErrNoAvailableLocation)
	}
}

// fillPlan9 shares folders, and one of them again and again at one place.
func fillPlan9(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) (shares []*uvm.Plan9Share) {
	t.Helper()
	root := t.TempDir()
	share := func(dir, at string) {
		t.Helper()
		s, err := vm.AddPlan9(ctx, dir, at, true, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, s)
	}
	for i := range manyShares {
		dir := filepath.Join(root, fmt.Sprint(i))
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "f"), fmt.Append(nil, i, "\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
		share(dir, fmt.Sprintf("/run/mounts/s%d", i))
	}
	for range 64 { // case 14
		share(root, "/run/mounts/root")
	}
	says(ctx, t, vm, "cat /run/mounts/s7/f /run/mounts/root/63/f; cat /run/mounts/s*/f | wc -l", "7\n63\n64\n")
	return shares
}

// testLayerRounds adds and removes layers a thousand times, of files that have
// been there before.
func testLayerRounds(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, images []string) {
	for i := range 1000 {
		k := i * 37 % manyLayers
		if at := addLayer(ctx, t, vm, images[k]); at != fmt.Sprintf("/run/layers/p%d", k) {
			t.Fatalf("layer %d is at %s", k, at)
		}
		if i%100 == 0 {
			says(ctx, t, vm, fmt.Sprintf("cat /run/layers/p%d/f", k), fmt.Sprintf("number %03d", k))
		}
		removeLayer(ctx, t, vm, images[k])
	}
	says(ctx, t, vm, "ls -d /run/layers/* 2>/dev/null | wc -l; ls -d /sys/block/pmem* | wc -l", "0\n128\n")
}
