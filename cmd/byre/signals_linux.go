package main

import (
	"os"
	"syscall"
)

// caught are the signals that a run acts on.
var caught = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM, syscall.SIGCONT, syscall.SIGPIPE, resized,
}

// resized says that the terminal has another size.
const resized = syscall.SIGWINCH
