//go:build !linux

package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// caught are the signals that a run acts on. On Windows, Ctrl-C and Ctrl-Break
// are the first, and the ends of the console's window, of the user's session
// and of the system the second.
var caught = []os.Signal{os.Interrupt, syscall.SIGTERM}

// resized is never caught here: the console tells.
const resized = syscall.Signal(28)

// linuxSignals are the names that signals have in the guest, in the order of
// their numbers, from 1 on.
const linuxSignals = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"

// signalNumber returns the number of a Linux signal given by number or by
// name, with or without SIG, and 0 for one that is not known.
func signalNumber(s string) syscall.Signal {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n)
	}
	s = strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for i, name := range strings.Fields(linuxSignals) {
		if s == name {
			return syscall.Signal(i + 1)
		}
	}
	return 0
}
