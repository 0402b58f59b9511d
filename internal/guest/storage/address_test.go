//go:build linux

package storage

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// vmbusDevice makes a device in a made-up sysfs, as hv_storvsc has it.
func vmbusDevice(t *testing.T, sys, id, class, host string) {
	t.Helper()
	dir := filepath.Join(sys, "bus/vmbus/devices", id)
	err := errors.Join(os.MkdirAll(filepath.Join(dir, host), 0o755), os.WriteFile(filepath.Join(dir, "class_id"), []byte(class+"\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

const nicClass = "{f8615163-df3e-46c5-913f-f2d2f965ed0e}"

func TestDiskAddress(t *testing.T) {
	const other = "11111111-2222-3333-4444-555555555555"
	for name, c := range map[string]struct {
		devices    [][3]string // id, class, host
		controller int
		want       address
		err        error
	}{
		"by its name":        {[][3]string{{place.SCSIController(0), scsiClass, "host5"}, {place.SCSIController(2), scsiClass, "host3"}}, 2, address{3, 0, 9}, nil},
		"the only one":       {[][3]string{{other, scsiClass, "host1"}, {"x", nicClass, "net"}}, 0, address{1, 0, 9}, nil},
		"no driver":          {[][3]string{{place.SCSIController(0), scsiClass, "driver_override"}}, 0, address{}, unix.ENODEV},
		"one of two":         {[][3]string{{other, scsiClass, "host0"}, {"y", scsiClass, "host1"}}, 0, address{}, unix.ENODEV},
		"not the second":     {[][3]string{{other, scsiClass, "host0"}}, 1, address{}, unix.ENODEV},
		"no controller":      {[][3]string{{"x", nicClass, "net"}}, 0, address{}, unix.ENODEV},
		"a machine of byre":  {nil, 2, address{0, 2, 9}, nil},
		"name before others": {[][3]string{{other, scsiClass, "host0"}, {place.SCSIController(0), scsiClass, "host1"}}, 0, address{1, 0, 9}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			sys := fakeSys(t)
			for _, d := range c.devices {
				vmbusDevice(t, sys, d[0], d[1], d[2])
			}
			if got, err := diskAddress(c.controller, 9); got != c.want || !errors.Is(err, c.err) {
				t.Errorf("got %v, %v, want %v, %v", got, err, c.want, c.err)
			}
		})
	}
}

// TestVMBusDisk is a disk of a machine on Hyper-V, whose controller comes late.
func TestVMBusDisk(t *testing.T) {
	sys := fakeSys(t)
	vmbusDevice(t, sys, "x", nicClass, "net")
	if _, err := findDisk(soon(), 1, 7); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no controller: got %v, want %v", err, unix.ENODEV)
	}
	vmbusDevice(t, sys, place.SCSIController(1), scsiClass, "host2")
	scan := filepath.Join(sys, "class/scsi_host/host2/scan")
	disk := filepath.Join(sys, "bus/scsi/devices/2:0:0:7")
	if err := errors.Join(os.MkdirAll(filepath.Dir(scan), 0o755), os.WriteFile(scan, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := findDisk(soon(), 1, 7); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no disk: got %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if b, err := os.ReadFile(scan); string(b) != "0 0 7" {
		t.Errorf("scan got %q, %v", b, err)
	}
	if err := os.MkdirAll(filepath.Join(disk, "block/sdc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if dev, err := findDisk(soon(), 1, 7); dev != "/dev/sdc" || err != nil {
		t.Errorf("got %s, %v", dev, err)
	}
	if err := RemoveDisk(hcsschema.LCOWMappedVirtualDisk{Controller: 1, Lun: 7}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(disk, "delete")); string(b) != "1\n" {
		t.Errorf("delete got %q, %v", b, err)
	}
	if err := RemoveDisk(hcsschema.LCOWMappedVirtualDisk{Controller: 3, Lun: 7}); err != nil {
		t.Errorf("a disk of a controller that is not there: got %v, want nil", err)
	}
}
