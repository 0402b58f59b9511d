//go:build !linux

package main

import (
	"os"
	"strconv"
	"syscall"
)

// caught are the signals that a run acts on.
var caught = []os.Signal{os.Interrupt, syscall.SIGTERM}

// resized is never caught here: there is no such signal.
const resized = syscall.Signal(28)

// signalNumber returns the number of a Linux signal, 0 if s is none.
func signalNumber(s string) syscall.Signal {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n)
	}
	return 0
}
