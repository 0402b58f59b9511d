//go:build linux

package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/place"
)

// scsiClass is the class of SCSI controllers on Hyper-V's VMBus.
const scsiClass = "{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}"

// An address is that of a SCSI disk; the channel is 0.
type address struct{ host, target, lun int }

// diskAddress returns the address of a disk. On Hyper-V's VMBus it is an error
// that [isNotReady] knows if the controller is not there, or has no driver yet.
func diskAddress(controller, lun int) (address, error) {
	bus := filepath.Join(sysfs, "bus/vmbus/devices")
	if _, err := os.Stat(bus); err != nil {
		return address{0, controller, lun}, nil
	}
	dir := filepath.Join(bus, place.SCSIController(controller))
	if _, err := os.Stat(dir); err != nil && controller == 0 {
		dir = onlyController(bus, dir)
	}
	hosts, _ := filepath.Glob(filepath.Join(dir, "host*"))
	for _, h := range hosts {
		if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(h), "host")); err == nil {
			return address{n, 0, lun}, nil
		}
	}
	return address{}, fmt.Errorf("SCSI controller %d is not on the VMBus: %w", controller, unix.ENODEV)
}

// onlyController returns the folder of the one SCSI controller on the bus, else
// other: the name of the only one may be anybody's.
func onlyController(bus, other string) string {
	devices, _ := filepath.Glob(filepath.Join(bus, "*/class_id"))
	found := other
	for _, d := range devices {
		if b, err := os.ReadFile(d); err != nil || strings.ToLower(strings.TrimSpace(string(b))) != scsiClass {
			continue
		}
		if found != other {
			return other
		}
		found = filepath.Dir(d)
	}
	return found
}

// dir returns the folder of the disk, if it is there.
func (a address) dir() string {
	return filepath.Join(sysfs, "bus/scsi/devices", fmt.Sprintf("%d:0:%d:%d", a.host, a.target, a.lun))
}

// forget makes the kernel forget the disk, if it has one of that address.
func (a address) forget() error {
	err := os.WriteFile(filepath.Join(a.dir(), "delete"), []byte("1\n"), 0)
	if err != nil && !isNotReady(err) {
		return err
	}
	return nil
}

// scan has the controller look for the disk.
func (a address) scan() bool {
	name := filepath.Join(sysfs, "class/scsi_host", fmt.Sprintf("host%d/scan", a.host))
	return os.WriteFile(name, fmt.Appendf(nil, "0 %d %d", a.target, a.lun), 0) == nil
}
