//go:build linux

package stdio

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNoTerminal means that a process has no terminal whose size could be set.
var ErrNoTerminal = errors.New("the process has no terminal")

// A Terminal is the standard streams of a process with a terminal.
type Terminal struct {
	log    *slog.Logger
	master *os.File

	conns   Conns
	input   *input
	outputs sync.WaitGroup
}

// NewTerminal takes the master side of a pseudo-terminal, which it owns from
// then on. It is used up by Abandon, or by Start and then Exited.
func NewTerminal(master int, log *slog.Logger) *Terminal {
	unix.SetNonblock(master, true)
	return &Terminal{log: log, master: os.NewFile(uintptr(master), "terminal")}
}

// OpenTerminal makes a pseudo-terminal, and returns the process's side too,
// which the caller closes.
func OpenTerminal(log *slog.Logger) (*Terminal, *os.File, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		unix.Close(master)
		return nil, nil, fmt.Errorf("unlocking a terminal: %w", err)
	}
	slave, err := openPeer(master)
	if err != nil {
		unix.Close(master)
		return nil, nil, fmt.Errorf("opening a terminal: %w", err)
	}
	return NewTerminal(master, log), os.NewFile(uintptr(slave), "terminal"), nil
}

func openPeer(master int) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, os.NewSyscallError("TIOCGPTPEER", errno)
	}
	return int(r), nil
}

// Start connects the terminal to the host, and owns the connections from then
// on. A connection for stderr is not used. It is called once.
func (t *Terminal) Start(c Conns) {
	t.conns = c
	if c.In != nil {
		// The end of the host's input is not the end of the terminal.
		t.input = newInput(c.In, t.master, func() {})
	}
	// Closing the master when the output has ended also ends a write of the
	// input that nobody will read.
	t.outputs.Go(func() { output("terminal", c.Out, t.master, t.log) })
}

// Exited is called when the process has ended. It returns when the host has
// all output and the connections are closed.
func (t *Terminal) Exited() {
	t.outputs.Wait()
	if t.input != nil {
		t.input.stop()
	}
	t.conns.Close()
}

// Abandon closes a terminal that was never started.
func (t *Terminal) Abandon() { t.master.Close() }

// Resize sets the size of the terminal, in characters.
func (t *Terminal) Resize(height, width uint16) error {
	raw, err := t.master.SyscallConn()
	if err != nil {
		return os.ErrProcessDone
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	if err != nil {
		return os.ErrProcessDone // the relay has closed it
	}
	return os.NewSyscallError("TIOCSWINSZ", set)
}
