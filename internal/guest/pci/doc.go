// Package pci waits for the PCI devices of the host that are given to the
// machine. Where one appears follows from its id, by internal/place.
package pci
