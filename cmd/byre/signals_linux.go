package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// caught are the signals that a run acts on, unless it was started with SIGHUP
// ignored, as nohup does it.
var caught = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM, syscall.SIGCONT, syscall.SIGPIPE, resized,
}

// resized says that the terminal has another size.
const resized = syscall.SIGWINCH

// hasTerminal reports whether byre has a terminal that controls it. It has none
// any more when that was closed.
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}
