package qemu

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

const (
	defaultMemoryMB = 1024
	maxProcessors   = 255
	defaultPMemMax  = 4 << 30
	mib             = 1 << 20
)

// A machine is what a document asks for, in this engine's terms.
type machine struct {
	id          string
	owner       string
	memory      memoryOptions
	processors  int
	shares      shares
	resets      bool  // a reset of the guest boots it again
	boot        *boot // nil boots nothing
	consolePath string
	controllers []int // SCSI controllers, sorted
	pmemCount   int
	pmemMax     int64 // bytes of one device
	qos         hcsschema.StorageQoS
	screen      *hcsschema.VideoMonitor // nil without one
	pciPorts    bool                    // there are root ports for PCI devices of the host
	plan9       bool                    // there is a device for shares
	attached    []attachment
}

// A boot is a kernel with what it is given. uefi starts it as a program of
// the firmware, else it is started directly.
type boot struct {
	kernel, initrd, cmdline string
	uefi                    bool
}

// An attachment is a device that a path names: one of the others is set. The
// Name in the path of a share is the share's.
type attachment struct {
	path  hcs.Path
	disk  *hcsschema.Attachment
	pmem  *hcsschema.VirtualPMemDevice
	share *hcsschema.Plan9Share
	nic   *hcsschema.NetworkAdapter
	pipe  *hcsschema.PipeSocket
	pci   *hcsschema.VirtualPciDevice
}

// newMachine reads doc strictly. It looks at nothing outside doc.
func newMachine(id string, doc hcs.Document, hostProcessors int) (*machine, error) {
	var cs hcsschema.ComputeSystem
	if err := doc.Decode(&cs); err != nil {
		return nil, err
	}
	if err := checkMembers(hcs.Members(cs)); err != nil {
		return nil, err
	}
	if v := cs.SchemaVersion; v != nil && v.Major != 2 {
		return nil, fmt.Errorf("%w: SchemaVersion %d.%d", hcs.ErrNotSupported, v.Major, v.Minor)
	}
	vm := cs.VirtualMachine
	if vm == nil {
		return nil, errors.New("document has no VirtualMachine")
	}
	m := &machine{
		id: id, owner: cs.Owner, memory: memoryOptions{sizeMB: defaultMemoryMB},
		processors: min(2, hostProcessors), resets: !vm.StopOnReset,
		plan9: vm.Devices != nil && vm.Devices.Plan9 != nil,
	}
	for _, part := range []func(*hcsschema.VirtualMachine) error{m.setBoot, m.setProcessor, m.setConsole, m.setScreen, m.setSCSI, m.setQoS, m.setPMem, m.setMemory, m.setNICs, m.setPCI} {
		if err := part(vm); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *machine) setBoot(vm *hcsschema.VirtualMachine) error {
	if vm.Chipset == nil {
		return nil
	}
	k, u := vm.Chipset.LinuxKernelDirect, vm.Chipset.Uefi
	switch {
	case k != nil && u != nil:
		return errors.New("document has both LinuxKernelDirect and Uefi")
	case u != nil:
		return m.setFirmwareBoot(u)
	case k == nil:
		return nil
	case k.KernelFilePath == "":
		return errors.New("LinuxKernelDirect has no KernelFilePath")
	}
	m.boot = &boot{kernel: k.KernelFilePath, initrd: k.InitRdPath, cmdline: k.KernelCmdLine}
	return nil
}

// setFirmwareBoot has the firmware start a Linux kernel, which is a program
// for UEFI too, from a folder of the host. The first word of the command line
// may name its initrd.
func (m *machine) setFirmwareBoot(u *hcsschema.Uefi) error {
	e := u.BootThis
	if e == nil || e.DeviceType != hcsschema.DeviceTypeVmbFs || e.VmbFsRootPath == "" {
		return fmt.Errorf("%w: member VirtualMachine.Chipset.Uefi that does not boot from a folder (%s with VmbFsRootPath)", hcs.ErrNotSupported, hcsschema.DeviceTypeVmbFs)
	}
	inside := func(path string) (string, error) {
		p := strings.TrimLeft(strings.ReplaceAll(path, `\`, "/"), "/")
		if !filepath.IsLocal(p) {
			return "", fmt.Errorf("boot file %q is not in the folder %s", path, e.VmbFsRootPath)
		}
		return filepath.Join(e.VmbFsRootPath, p), nil
	}
	b := &boot{cmdline: e.OptionalData, uefi: true}
	var err error
	if b.kernel, err = inside(e.DevicePath); err != nil {
		return err
	}
	if words := fields(e.OptionalData); len(words) > 0 {
		if name, ok := strings.CutPrefix(words[0], "initrd="); ok {
			if b.initrd, err = inside(name); err != nil {
				return err
			}
		}
	}
	m.boot = b
	return nil
}

func (m *machine) setProcessor(vm *hcsschema.VirtualMachine) error {
	if vm.ComputeTopology == nil || vm.ComputeTopology.Processor == nil {
		return nil
	}
	p := vm.ComputeTopology.Processor
	if p.Count < 0 || p.Count > maxProcessors {
		return fmt.Errorf("%d processors: from 1 to %d are possible", p.Count, maxProcessors)
	}
	if p.Count > 0 {
		m.processors = int(p.Count)
	}
	m.shares = shares{limit: int64(p.Limit), weight: int64(p.Weight)}
	return m.shares.check()
}

// setQoS limits the disks.
func (m *machine) setQoS(vm *hcsschema.VirtualMachine) error {
	if vm.StorageQoS == nil {
		return nil
	}
	m.qos = *vm.StorageQoS
	if m.qos.IopsMaximum < 0 || m.qos.BandwidthMaximum < 0 {
		return fmt.Errorf("limits of disks must not be negative: %d requests, %d bytes a second", m.qos.IopsMaximum, m.qos.BandwidthMaximum)
	}
	return nil
}

func (m *machine) setConsole(vm *hcsschema.VirtualMachine) error {
	if vm.Devices == nil {
		return nil
	}
	for port, c := range vm.Devices.ComPorts {
		if port != "0" {
			return fmt.Errorf("%w: serial port %q: only 0", hcs.ErrNotSupported, port)
		}
		if strings.HasPrefix(c.NamedPipe, `\\`) {
			return fmt.Errorf("%w: serial port on the Windows pipe %s: on Linux it is the path of a socket", hcs.ErrNotSupported, c.NamedPipe)
		}
		if !filepath.IsAbs(c.NamedPipe) {
			return fmt.Errorf("serial port on %q: not an absolute path", c.NamedPipe)
		}
		if len(c.NamedPipe) > maxSocketPath {
			return fmt.Errorf("serial port on %q: a socket's path has at most %d bytes", c.NamedPipe, maxSocketPath)
		}
		m.consolePath = c.NamedPipe
	}
	return nil
}

// maxSocketPath is the room for a path in a sockaddr_un, without its NUL.
const maxSocketPath = 107

func (m *machine) setSCSI(vm *hcsschema.VirtualMachine) error {
	if vm.Devices == nil {
		return nil
	}
	for name, c := range vm.Devices.Scsi {
		n, err := index(name, place.MaxSCSIControllers)
		if err != nil {
			return fmt.Errorf("SCSI controller %q: %w", name, err)
		}
		m.controllers = append(m.controllers, n)
		for lun, a := range c.Attachments {
			l, err := index(lun, place.MaxLUNs)
			if err != nil {
				return fmt.Errorf("LUN %q of SCSI controller %d: %w", lun, n, err)
			}
			m.attached = append(m.attached, attachment{
				path: hcs.Path{Resource: hcs.ResourceSCSI, Controller: n, Number: l}, disk: &a,
			})
		}
	}
	slices.Sort(m.controllers)
	return nil
}

func (m *machine) setPMem(vm *hcsschema.VirtualMachine) error {
	if vm.Devices == nil || vm.Devices.VirtualPMem == nil {
		return nil
	}
	p := vm.Devices.VirtualPMem
	if p.MaximumCount > place.MaxVPMem {
		return fmt.Errorf("%d persistent-memory devices: at most %d are possible", p.MaximumCount, place.MaxVPMem)
	}
	if p.MaximumSizeBytes > maxPMemSpace {
		return fmt.Errorf("persistent-memory devices of %d bytes: at most %d are possible", p.MaximumSizeBytes, int64(maxPMemSpace))
	}
	m.pmemCount, m.pmemMax = int(p.MaximumCount), int64(p.MaximumSizeBytes)
	if m.pmemMax == 0 {
		m.pmemMax = defaultPMemMax
	}
	for name, d := range p.Devices {
		n, err := index(name, m.pmemCount)
		if err != nil {
			return fmt.Errorf("persistent-memory device %q: %w", name, err)
		}
		m.attached = append(m.attached, attachment{path: hcs.Path{Resource: hcs.ResourceVPMem, Number: n}, pmem: &d})
	}
	slices.SortFunc(m.attached, func(a, b attachment) int { return strings.Compare(a.path.String(), b.path.String()) })
	return nil
}

// setNICs attaches the adapters of the document.
func (m *machine) setNICs(vm *hcsschema.VirtualMachine) error {
	if vm.Devices == nil {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(vm.Devices.NetworkAdapters)) {
		a := vm.Devices.NetworkAdapters[id]
		if err := checkAdapter(id, &a); err != nil {
			return err
		}
		m.attached = append(m.attached, attachment{path: adapterPath(id), nic: &a})
	}
	return nil
}

// index parses the key of a map that stands for a number below n.
func index(key string, n int) (int, error) {
	i, err := strconv.Atoi(key)
	if err != nil || strconv.Itoa(i) != key || i < 0 || i >= n {
		return 0, fmt.Errorf("not a number from 0 to %d", n-1)
	}
	return i, nil
}

// bootsFromPMem reports whether the root file system is persistent memory and
// nothing loads the modules for it.
func (m *machine) bootsFromPMem() bool {
	if m.boot == nil || m.boot.initrd != "" {
		return false
	}
	for _, a := range m.attached {
		if a.pmem != nil && a.path.Number == 0 {
			return true
		}
	}
	return false
}
