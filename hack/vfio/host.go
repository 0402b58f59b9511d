//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/byrevm/byre/hcsschema"
)

// A host is the devices of this host that are to spare. A guest gets both
// functions of the NIC, which are one IOMMU group, and the second virtual
// function of the disk; the disk itself and its first one stay here.
type host struct {
	nic     []string // addresses
	disk    string
	virtual []string
	before  map[string]string // of them all: see state
}

// A device is some of them, as one device of a guest.
type device struct {
	document  hcsschema.VirtualPciDevice
	functions []string // addresses
}

func (h host) devices() []device {
	return []device{
		{functions(0, h.nic...), h.nic},
		{functions(2, h.disk), h.virtual[1:]},
	}
}

// spare are the addresses of what a guest gets.
func (h host) spare() []string { return append(slices.Clone(h.nic), h.virtual[1]) }

func functions(virtual uint16, addrs ...string) hcsschema.VirtualPciDevice {
	var d hcsschema.VirtualPciDevice
	for _, a := range addrs {
		d.Functions = append(d.Functions, hcsschema.VirtualPciFunction{DeviceInstancePath: a, VirtualFunction: virtual})
	}
	return d
}

// prepare makes the virtual functions of the disk, without a driver, as the
// disk does not serve them before it is told to. It notes what all are like.
func (h *host) prepare() error {
	if err := os.WriteFile(path(h.disk, "sriov_drivers_autoprobe"), []byte("0"), 0); err != nil {
		return err
	}
	if err := os.WriteFile(path(h.disk, "sriov_numvfs"), []byte("2"), 0); err != nil {
		return err
	}
	for _, name := range []string{"virtfn0", "virtfn1"} {
		h.virtual = append(h.virtual, link(h.disk, name))
	}
	h.before = h.now()
	for a, s := range h.before {
		fmt.Println(a, s, "group", link(a, "iommu_group"))
	}
	if link(h.nic[0], "iommu_group") != link(h.nic[1], "iommu_group") {
		return errors.New("the functions of the NIC are not one IOMMU group")
	}
	return nil
}

func (h host) now() map[string]string {
	all := make(map[string]string)
	for _, a := range append(append([]string{h.disk}, h.nic...), h.virtual...) {
		all[a] = state(a)
	}
	return all
}

// want checks who has which device: the guest those that are named, their
// drivers all others.
func (h host) want(when string, guest ...string) error {
	var errs []error
	for a, now := range h.now() {
		want := h.before[a]
		if slices.Contains(guest, a) {
			want = "vfio-pci vfio-pci"
		}
		if now != want {
			errs = append(errs, fmt.Errorf("%s: %s is %s, want %s", when, a, now, want))
		}
	}
	fmt.Println(when+": the guest has", guest)
	return errors.Join(errs...)
}

// state tells the driver of a function and the one that it is kept for.
func state(addr string) string { return link(addr, "driver") + " " + read(addr, "driver_override") }

// interfaces tells the numbers of a NIC's interfaces. One that its driver has
// let go of has another when it comes back.
func interfaces(addr string) string {
	all, _ := filepath.Glob(path(addr, "virtio*/net/*/ifindex")) // the pattern is right
	for i, f := range all {
		all[i] = text(os.ReadFile(f))
	}
	return strings.Join(all, " ")
}

func path(addr, name string) string { return filepath.Join("/sys/bus/pci/devices", addr, name) }

func read(addr, name string) string { return text(os.ReadFile(path(addr, name))) }

func text(b []byte, err error) string {
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

// link returns the name of what a link of a function is to, "none" if it is
// not there.
func link(addr, name string) string {
	to, err := os.Readlink(path(addr, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "none"
	case err != nil:
		return err.Error()
	}
	return filepath.Base(to)
}
