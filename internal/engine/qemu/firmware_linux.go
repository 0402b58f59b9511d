package qemu

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/byrevm/byre/hcs"
)

const (
	// fastFirmware starts a kernel and does little else, which saves half a
	// second.
	fastFirmware = "qboot.rom"
	installUEFI  = "apt-get install ovmf"
)

// uefiFirmware are the places where distributions put UEFI firmware that is
// one file and keeps its variables in memory.
var uefiFirmware = []string{
	"/usr/share/ovmf/OVMF.fd", "/usr/share/qemu/OVMF.fd",
	"/usr/share/edk2/x64/OVMF.4m.fd", "/usr/share/edk2-ovmf/x64/OVMF.fd",
}

// firmwareFor returns what a machine starts with: a path, or a name that
// QEMU knows.
func firmwareFor(m *machine) (string, error) {
	if m.boot == nil || !m.boot.uefi {
		return fastFirmware, nil
	}
	for _, p := range uefiFirmware {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: member VirtualMachine.Chipset.Uefi: the firmware is none of %s (%s brings it)",
		hcs.ErrNotSupported, strings.Join(uefiFirmware, ", "), installUEFI)
}

// isUEFIProgram looks for the signature of a program for UEFI, which a bzImage
// can be and a vmlinux never is.
func isUEFIProgram(f io.ReaderAt) bool {
	var b [2]byte
	_, err := f.ReadAt(b[:], 0)
	return err == nil && string(b[:]) == "MZ"
}
