// Package place says where a device of a resource path sits in the guest. It
// is the one place where the engine that plugs a device in and the agent that
// looks for it agree, so that neither guesses by the order of enumeration.
//
// The PCI bus of a VM:
//
//	pcie.0
//	 ├ 00:10.0 … 00:14.0  PCI bridge ─ slots 1…31  persistent memory 0…127, as many as needed
//	 ├ 00:15.0 … 00:16.0  PCI bridge ─ slots 1…31  network adapters
//	 └ 00:18.0 … 00:1b.0  root port                assigned devices
//
// Bus numbers are the firmware's choice, so a place is a chain of devices
// below the root bus. SCSI disks have an address of their own kind.
package place
