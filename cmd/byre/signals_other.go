//go:build !linux

package main

import (
	"os"
	"syscall"
)

// caught are the signals that a run acts on. On Windows, Ctrl-C and Ctrl-Break
// are the first, and the ends of the console's window, of the user's session
// and of the system the second.
var caught = []os.Signal{os.Interrupt, syscall.SIGTERM}

// resized is never caught here: the console tells.
const resized = syscall.Signal(28)

// hasTerminal has no meaning where no signal tells that it was closed.
func hasTerminal() bool { return false }
