package hcs

import (
	"fmt"
	"strconv"
	"strings"
)

// Resource paths that name one thing each (spec §2.8).
const (
	PathMemorySize      = "VirtualMachine/ComputeTopology/Memory/SizeInMB"
	PathProcessorLimits = "VirtualMachine/ComputeTopology/Processor/Limits"
	PathPlan9           = "VirtualMachine/Devices/Plan9/Shares"
	PathVSMB            = "VirtualMachine/Devices/VirtualSmb/Shares"
)

const (
	prefixSCSI    = "VirtualMachine/Devices/Scsi/"
	prefixVPMem   = "VirtualMachine/Devices/VirtualPMem/Devices/"
	prefixNetwork = "VirtualMachine/Devices/NetworkAdapters/"
	prefixPCI     = "VirtualMachine/Devices/VirtualPci/"
	prefixPipe    = "VirtualMachine/Devices/MappedPipes/"
)

// A Resource is the kind of thing that a resource path names.
type Resource int

const (
	ResourceNone    Resource = iota
	ResourceSCSI             // a LUN of a SCSI controller
	ResourceVPMem            // a persistent-memory device
	ResourceNetwork          // a network adapter
	ResourcePCI              // an assigned PCI device
	ResourcePipe             // a pipe of the host
	ResourcePlan9            // the list of Plan9 shares
	ResourceVSMB             // the list of SMB shares
	ResourceMemory           // the size of memory
	ResourceProcessorLimits
)

// A Path is a parsed resource path. Which members count depends on Resource.
type Path struct {
	Resource   Resource
	Controller int    // SCSI
	Number     int    // SCSI: the LUN; VPMem: the device
	Name       string // Network, PCI: a GUID; Pipe: the path on the host
}

// SCSIPath returns the resource path of a disk.
func SCSIPath(controller, lun int) string {
	return fmt.Sprintf("%s%d/Attachments/%d", prefixSCSI, controller, lun)
}

// VPMemPath returns the resource path of a persistent-memory device.
func VPMemPath(device int) string { return prefixVPMem + strconv.Itoa(device) }

// NetworkPath returns the resource path of a network adapter.
func NetworkPath(id string) string { return prefixNetwork + id }

// PCIPath returns the resource path of an assigned PCI device.
func PCIPath(id string) string { return prefixPCI + id }

// PipePath returns the resource path of a pipe of the host.
func PipePath(hostPath string) string { return prefixPipe + hostPath }

func (p Path) String() string {
	switch p.Resource {
	case ResourceSCSI:
		return SCSIPath(p.Controller, p.Number)
	case ResourceVPMem:
		return VPMemPath(p.Number)
	case ResourceNetwork:
		return NetworkPath(p.Name)
	case ResourcePCI:
		return PCIPath(p.Name)
	case ResourcePipe:
		return PipePath(p.Name)
	case ResourcePlan9:
		return PathPlan9
	case ResourceVSMB:
		return PathVSMB
	case ResourceMemory:
		return PathMemorySize
	case ResourceProcessorLimits:
		return PathProcessorLimits
	}
	return ""
}

// ParsePath parses a resource path. Any that it does not know is
// [ErrNotSupported].
func ParsePath(s string) (Path, error) {
	switch s {
	case PathPlan9:
		return Path{Resource: ResourcePlan9}, nil
	case PathVSMB:
		return Path{Resource: ResourceVSMB}, nil
	case PathMemorySize:
		return Path{Resource: ResourceMemory}, nil
	case PathProcessorLimits:
		return Path{Resource: ResourceProcessorLimits}, nil
	}
	if rest, ok := strings.CutPrefix(s, prefixSCSI); ok {
		c, l, ok := strings.Cut(rest, "/Attachments/")
		controller, err1 := number(c)
		lun, err2 := number(l)
		if ok && err1 == nil && err2 == nil {
			return Path{Resource: ResourceSCSI, Controller: controller, Number: lun}, nil
		}
	}
	if n, ok := strings.CutPrefix(s, prefixVPMem); ok {
		if d, err := number(n); err == nil {
			return Path{Resource: ResourceVPMem, Number: d}, nil
		}
	}
	for prefix, r := range map[string]Resource{prefixNetwork: ResourceNetwork, prefixPCI: ResourcePCI} {
		if n, ok := strings.CutPrefix(s, prefix); ok && n != "" && !strings.Contains(n, "/") {
			return Path{Resource: r, Name: n}, nil
		}
	}
	if n, ok := strings.CutPrefix(s, prefixPipe); ok && n != "" {
		return Path{Resource: ResourcePipe, Name: n}, nil
	}
	return Path{}, fmt.Errorf("%w: resource path %q", ErrNotSupported, s)
}

// number parses a decimal of one canonical form, so that one resource has one
// path.
func number(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err == nil && strconv.FormatUint(n, 10) != s {
		err = strconv.ErrSyntax
	}
	return int(n), err
}
