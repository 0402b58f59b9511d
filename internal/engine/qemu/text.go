package qemu

import (
	"fmt"
	"strings"
)

// maxCmdline is the longest command line that a Linux kernel on x86 takes
// whole: it cuts a longer one, and with it what its init is told.
const maxCmdline = 2047

// checkText refuses texts of which QEMU or the guest would see a part only. It
// is for the command line as the guest gets it.
func (m *machine) checkText() error {
	texts := []struct{ what, text string }{{"id", m.id}, {"serial port", m.consolePath}}
	if m.boot != nil {
		texts = append(texts, struct{ what, text string }{"kernel command line", m.boot.cmdline})
	}
	for _, x := range texts {
		if strings.ContainsRune(x.text, 0) {
			return fmt.Errorf("%s %q has a NUL in it", x.what, x.text)
		}
	}
	if m.boot != nil && len(m.boot.cmdline) > maxCmdline {
		return fmt.Errorf("kernel command line of %d bytes: at most %d are possible", len(m.boot.cmdline), maxCmdline)
	}
	return nil
}
