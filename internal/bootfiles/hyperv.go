package bootfiles

import (
	"errors"
	"strings"
)

// noHyperV begins the note of a kernel that lacks a driver for Hyper-V.
const noHyperV = "does not boot on Hyper-V: "

// HyperV returns nil if VMs of the Host Compute Service boot from the folder
// with the default options of package uvm, as far as the folder tells, else
// why not.
func (m *Manifest) HyperV() error {
	for _, n := range m.Notes {
		if strings.HasPrefix(n, noHyperV) {
			return errors.New(n)
		}
	}
	if _, ok := m.Files["modules.img"]; ok {
		return errors.New(noHyperV + "rootfs.vhd needs modules.img as an initrd, which is not used there: make the folder with --initrd-only")
	}
	return nil
}
