package qemu

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// pciWords keep addresses free behind each root port: a kernel gives an empty
// one 2 MiB, and no more later.
const pciWords = "pci=hpmmiosize=16M,hpmmioprefsize=4G"

// setPCI attaches the PCI devices of the document, and decides whether there
// are root ports for them. They cost time at each boot, so only a document
// that has devices, or does not tell its kernel to do without PCI, has them.
func (m *machine) setPCI(vm *hcsschema.VirtualMachine) error {
	m.pciPorts = m.boot == nil || !turnsPCIOff(m.boot.cmdline)
	if vm.Devices == nil {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(vm.Devices.VirtualPci)) {
		d := vm.Devices.VirtualPci[id]
		m.pciPorts = true
		if _, err := place.DeviceSlot(id); err != nil {
			return err
		}
		m.attached = append(m.attached, attachment{path: pciPath(id), pci: &d})
	}
	return nil
}

// hasPCISlot refuses a device that there is no port for.
func (m *machine) hasPCISlot(id string) error {
	if !m.pciPorts {
		return fmt.Errorf("%w: PCI devices of a system whose kernel is told not to use PCI (VPCIEnabled is not set)", hcs.ErrNotSupported)
	}
	if _, err := place.DeviceSlot(id); err != nil {
		return fmt.Errorf("%w: %w, as there are %d", hcs.ErrNotFound, err, place.MaxAssigned)
	}
	return nil
}

// turnsPCIOff reports whether editCmdline takes noPCI out of a line.
func turnsPCIOff(line string) bool {
	kernel, _, _ := cutInit(line)
	words := fields(kernel)
	n := len(words)
	return n >= 4 && words[n-1] == noPMTmr && words[n-4] == noPCI &&
		strings.HasPrefix(words[n-3], "nr_cpus=") && strings.HasPrefix(words[n-2], "brd.rd_nr=")
}

// portWords are the words of the kernel's command line for a machine with root
// ports.
func (m *machine) portWords() []string {
	if !m.pciPorts {
		return nil
	}
	return []string{pciWords}
}

// pciPorts are the arguments for the root ports, one for each assigned device.
func pciPorts(m *machine) []string {
	if !m.pciPorts {
		return nil
	}
	var a []string
	for n := range place.MaxAssigned {
		port := place.Assigned(n).Port()
		a = append(a, "-device", fmt.Sprintf("pcie-root-port,id=%s,bus=pcie.0,addr=%#x,chassis=%d,slot=%[3]d", pciPortID(n), port, port))
	}
	return a
}

func pciPortID(slot int) string { return fmt.Sprintf("pciport%d", slot) }

// pciPath returns the path of an assigned device, whatever the case of its id.
func pciPath(id string) hcs.Path {
	return hcs.Path{Resource: hcs.ResourcePCI, Name: strings.ToLower(id)}
}
