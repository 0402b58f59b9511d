package place

import (
	"fmt"
	"strings"
)

// Sizes of the topology.
const (
	MaxSCSIControllers = 4
	MaxLUNs            = 64 // of a controller
	MaxVPMem           = 128
	SlotsPerBridge     = 31
	MaxNetwork         = nicBridges * SlotsPerBridge
	MaxAssigned        = 4
)

const (
	vpmemPort = 0x10 // first port of each kind, as device number on the root bus
	nicPort   = 0x15
	pciPort   = 0x18

	nicBridges = 2
)

// A PCI place is the chain of device numbers that leads from the root bus to
// a device; every function is 0.
type PCI []int

// VPMem returns the place of persistent-memory device n.
func VPMem(n int) PCI { return behindBridge(vpmemPort, n) }

// Network returns the place of the n-th slot for network adapters. The guest
// tells adapters apart by their MAC address.
func Network(n int) PCI { return behindBridge(nicPort, n) }

// Assigned returns the place of the n-th slot for assigned devices.
func Assigned(n int) PCI { return PCI{pciPort + n, 0} }

// VPMemBridges returns how many bridges n persistent-memory devices need.
func VPMemBridges(n int) int { return (n + SlotsPerBridge - 1) / SlotsPerBridge }

// NetworkBridges is the number of bridges for network adapters.
const NetworkBridges = nicBridges

func behindBridge(port, n int) PCI {
	return PCI{port + n/SlotsPerBridge, 1 + n%SlotsPerBridge}
}

// Port returns the device on the root bus that leads to p, as device number.
func (p PCI) Port() int { return p[0] }

// Slot returns the number of the last device of the chain.
func (p PCI) Slot() int { return p[len(p)-1] }

// Sysfs returns a pattern for path/filepath.Glob that matches the folder of
// the device in /sys, whatever the bus numbers are.
func (p PCI) Sysfs() string {
	var b strings.Builder
	b.WriteString("/sys/devices/pci0000:00")
	for i, dev := range p {
		bus := "??"
		if i == 0 {
			bus = "00"
		}
		fmt.Fprintf(&b, "/0000:%s:%02x.0", bus, dev)
	}
	return b.String()
}

// SCSI returns the address, host:channel:target:LUN, of a disk: all document
// controllers are targets of the one controller that the VM has.
func SCSI(controller, lun int) string { return fmt.Sprintf("0:0:%d:%d", controller, lun) }
