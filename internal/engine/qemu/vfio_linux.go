package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// vfioDriver gives a device of the host to a process that is not the kernel.
const vfioDriver = "vfio-pci"

// A vfioHost is the PCI devices of this host as /sys and /dev show them. The
// zero value is the host's own.
type vfioHost struct {
	root  string                        // what /sys and /dev are below
	write func(path, text string) error // nil writes to the file
}

func (h vfioHost) device(addr string, names ...string) string {
	return filepath.Join(append([]string{h.root, "/sys/bus/pci/devices", addr}, names...)...)
}

func (h vfioHost) driver(name string, names ...string) string {
	return filepath.Join(append([]string{h.root, "/sys/bus/pci/drivers", name}, names...)...)
}

// node is the file by which a group of devices is used.
func (h vfioHost) node(group int) string {
	return filepath.Join(h.root, "/dev/vfio", strconv.Itoa(group))
}

func (h vfioHost) groupFolder(group int) string {
	return filepath.Join(h.root, "/sys/kernel/iommu_groups", strconv.Itoa(group), "devices")
}

var pciAddress = regexp.MustCompile(`^([0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$`)

// resolve returns the address of a function on the host. VirtualFunction n is
// the n-th virtual function of the device, 0 the device itself.
func (h vfioHost) resolve(f hcsschema.VirtualPciFunction) (string, error) {
	addr := strings.ToLower(f.DeviceInstancePath)
	if !pciAddress.MatchString(addr) {
		return "", fmt.Errorf("%w: DeviceInstancePath %q: on Linux it is a PCI address, such as 0000:03:00.0", hcs.ErrNotSupported, f.DeviceInstancePath)
	}
	if strings.Count(addr, ":") == 1 {
		addr = "0000:" + addr
	}
	if _, err := os.Stat(h.device(addr)); err != nil {
		return "", fmt.Errorf("%w: PCI device %s: %w", hcs.ErrNotFound, addr, err)
	}
	if f.VirtualFunction == 0 {
		return addr, nil
	}
	to, err := os.Readlink(h.device(addr, fmt.Sprintf("virtfn%d", f.VirtualFunction-1)))
	if err != nil {
		return "", fmt.Errorf("%w: virtual function %d of PCI device %s: %w", hcs.ErrNotFound, f.VirtualFunction, addr, err)
	}
	return filepath.Base(to), nil
}

// undivided refuses a device that has virtual functions, which vfio-pci does
// not take, and a virtual function of a device that is given away itself.
func (h vfioHost) undivided(addr string) error {
	n, err := os.ReadFile(h.device(addr, "sriov_numvfs"))
	if err == nil && strings.TrimSpace(string(n)) != "0" {
		return fmt.Errorf("%w: PCI device %s, which has %s virtual functions (its sriov_numvfs)", hcs.ErrNotSupported, addr, strings.TrimSpace(string(n)))
	}
	if ignore(err, os.ErrNotExist) != nil {
		return err
	}
	of, err := os.Readlink(h.device(addr, "physfn"))
	if err != nil {
		return ignore(err, os.ErrNotExist)
	}
	of = filepath.Base(of)
	driver, err := h.boundTo(of)
	if err == nil && driver == vfioDriver {
		return fmt.Errorf("%w: PCI device %s, a virtual function of %s, which has driver %s itself", hcs.ErrNotSupported, addr, of, driver)
	}
	return err
}

// group returns the group of devices that an IOMMU does not tell apart.
func (h vfioHost) group(addr string) (int, error) {
	to, err := os.Readlink(h.device(addr, "iommu_group"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("%w: PCI device %s, as no IOMMU of this host confines it (the kernel may need intel_iommu=on)", hcs.ErrNotSupported, addr)
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(filepath.Base(to))
	if err != nil || n < 0 {
		return 0, fmt.Errorf("PCI device %s is in a group %q", addr, to)
	}
	return n, nil
}

// check refuses a group in which a driver of the host could be harmed by what
// a guest does with ours, or harm it.
func (h vfioHost) check(group int, ours []string) error {
	all, err := os.ReadDir(h.groupFolder(group))
	if err != nil {
		return fmt.Errorf("IOMMU group %d: %w", group, err)
	}
	for _, e := range all {
		bridge, err := h.isBridge(e.Name())
		if err != nil {
			return err
		}
		driver, err := h.boundTo(e.Name())
		if err != nil {
			return err
		}
		if slices.Contains(ours, e.Name()) {
			if bridge {
				return fmt.Errorf("%w: PCI device %s, which is a bridge", hcs.ErrNotSupported, e.Name())
			}
			continue
		}
		switch {
		case driver == "", driver == vfioDriver, driver == "pci-stub", bridge && driver == "pcieport":
		default:
			return fmt.Errorf("%w: PCI device %s, as its IOMMU group %d also has %s, which this host uses by driver %s",
				hcs.ErrNotSupported, strings.Join(ours, ", "), group, e.Name(), driver)
		}
	}
	return nil
}

func (h vfioHost) isBridge(addr string) (bool, error) {
	b, err := os.ReadFile(h.device(addr, "class"))
	if err != nil {
		return false, err
	}
	return strings.HasPrefix(string(b), "0x06"), nil
}

// boundTo returns the driver of a device, "" if it has none.
func (h vfioHost) boundTo(addr string) (string, error) {
	to, err := os.Readlink(h.device(addr, "driver"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return filepath.Base(to), err
}

func (h vfioHost) put(path, text string) error {
	if h.write != nil {
		return h.write(path, text)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// A borrowed device is one that had another driver, or none, before it was
// given to a system.
type borrowed struct {
	Address string
	Driver  string // "" for none
}

// take gives a device to vfio-pci.
func (h vfioHost) take(b borrowed) error {
	if _, err := os.Stat(h.driver(vfioDriver)); err != nil {
		return fmt.Errorf("%w: PCI devices, as the host has no driver %s (modprobe %[2]s)", hcs.ErrNotSupported, vfioDriver)
	}
	if err := h.put(h.device(b.Address, "driver_override"), vfioDriver); err != nil {
		return fmt.Errorf("taking PCI device %s: %w", b.Address, err)
	}
	if b.Driver != "" {
		if err := h.put(h.driver(b.Driver, "unbind"), b.Address); err != nil {
			return fmt.Errorf("taking PCI device %s from driver %s: %w", b.Address, b.Driver, err)
		}
	}
	return h.bind(b.Address, vfioDriver)
}

// giveBack gives devices back to their drivers. It waits until nobody uses
// them any more, goes on past a failure, and may be called again.
//
// All are freed before the first gets its driver: the kernel lets no driver of
// its own into a group of which somebody uses another device.
func (h vfioHost) giveBack(devices ...borrowed) error {
	var errs []error
	var free []borrowed
	for _, b := range devices {
		if _, err := os.Stat(h.device(b.Address)); errors.Is(err, os.ErrNotExist) {
			continue // the device has gone
		}
		if err := h.free(b.Address); err != nil {
			errs = append(errs, fmt.Errorf("giving PCI device %s back: %w", b.Address, err))
			continue
		}
		free = append(free, b)
	}
	for _, b := range free {
		errs = append(errs, h.rebind(b))
	}
	return errors.Join(errs...)
}

// free takes a device from vfio-pci.
func (h vfioHost) free(addr string) error {
	// A line feed alone takes the override away.
	if err := h.put(h.device(addr, "driver_override"), "\n"); err != nil {
		return err
	}
	now, err := h.boundTo(addr)
	if err != nil || now != vfioDriver {
		return err
	}
	return h.put(h.driver(vfioDriver, "unbind"), addr)
}

// rebind gives a free device to the driver that it had. Who has used it closes
// the group after its devices, and does not tell when: it is tried again.
func (h vfioHost) rebind(b borrowed) error {
	const limit, again = 5 * time.Second, time.Millisecond
	now, err := h.boundTo(b.Address)
	if err != nil || b.Driver == "" || now == b.Driver {
		return err
	}
	for deadline := time.Now().Add(limit); ; time.Sleep(again) {
		err := h.bind(b.Address, b.Driver)
		if !errors.Is(err, unix.EBUSY) || !time.Now().Before(deadline) {
			return err
		}
	}
}

func (h vfioHost) bind(addr, driver string) error {
	err := h.put(h.driver(driver, "bind"), addr)
	if now, e := h.boundTo(addr); e == nil && now == driver {
		return nil
	}
	if err == nil {
		err = errors.New("the driver does not take it")
	}
	return fmt.Errorf("giving PCI device %s to driver %s: %w", addr, driver, err)
}

// lockGroup makes a group this system's, until the file is closed: no other
// owner takes its devices, or gives them back.
func (h vfioHost) lockGroup(group int) (*os.File, error) {
	f, err := os.Open(h.groupFolder(group))
	if err != nil {
		return nil, err
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: IOMMU group %d is another system's", hcs.ErrAlreadyExists, group)
	}
	return nil, err
}

// A lentGroup is what a system has changed of a group, to be undone.
type lentGroup struct {
	Group   int
	Node    bool // the owner of the group's file, which was UID and GID
	UID     uint32
	GID     uint32
	Devices []borrowed
}

// restore undoes what was changed, and goes on past a failure.
func (h vfioHost) restore(g lentGroup) error {
	errs := []error{h.giveBack(g.Devices...)}
	if g.Node { // it is gone when the group has no device of vfio-pci
		errs = append(errs, ignore(os.Chown(h.node(g.Group), int(g.UID), int(g.GID)), os.ErrNotExist))
	}
	return errors.Join(errs...)
}

// recover restores the group of a dead owner, unless it is somebody else's by
// now.
func (h vfioHost) recover(g lentGroup) error {
	lock, err := h.lockGroup(g.Group)
	if errors.Is(err, hcs.ErrAlreadyExists) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	return h.restore(g)
}
