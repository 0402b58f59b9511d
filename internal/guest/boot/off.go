//go:build linux

package boot

import (
	"os"

	"golang.org/x/sys/unix"
)

// PowerOff writes what is not written yet and turns the machine off. It
// returns only an error.
func PowerOff() error {
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	return os.NewSyscallError("reboot", err)
}
