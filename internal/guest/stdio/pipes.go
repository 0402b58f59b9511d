//go:build linux

package stdio

import (
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Pipes are the standard streams of a process without terminal. They are made
// before the process, given to it, and connected to the host later, or never.
type Pipes struct {
	log   *slog.Logger
	child [3]*os.File
	in    *os.File    // what the process reads is written here
	outs  [2]*os.File // what it writes is read here

	input   *input // nil before Start, and without stdin
	outputs sync.WaitGroup
}

// pipeSize lets a process run ahead of its relay.
const pipeSize = 2 << 20

// NewPipes makes the pipes. They are used up by Abandon, or by Start and then
// Exited.
func NewPipes(log *slog.Logger) (*Pipes, error) {
	p := &Pipes{log: log}
	for fd := range p.child {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			p.Abandon()
			return nil, os.NewSyscallError("pipe2", err)
		}
		ours, theirs := 0, 1
		if fd == 0 {
			ours, theirs = 1, 0
		}
		if fd == 0 {
			// Writing can be broken off, so this end is the poller's.
			unix.SetNonblock(fds[ours], true)
		}
		unix.FcntlInt(uintptr(fds[ours]), unix.F_SETPIPE_SZ, pipeSize) // else it stays as it is
		p.child[fd] = os.NewFile(uintptr(fds[theirs]), "pipe")
		f := os.NewFile(uintptr(fds[ours]), "pipe")
		if fd == 0 {
			p.in = f
		} else {
			p.outs[fd-1] = f
		}
	}
	return p, nil
}

// Child returns the process's ends, for the three standard descriptors.
func (p *Pipes) Child() []*os.File { return p.child[:] }

// CloseChild closes the process's ends here, once the process has its own.
func (p *Pipes) CloseChild() {
	for i, f := range p.child {
		if f != nil {
			f.Close()
			p.child[i] = nil
		}
	}
}

// Start connects the pipes to the host, and owns the connections from then
// on. Input that nobody sends is at its end; output that nobody wants is
// thrown away. It is called once.
func (p *Pipes) Start(c Conns) {
	if c.In == nil {
		p.in.Close()
	} else {
		p.input = newInput(c.In, p.in, func() { p.in.Close() })
	}
	p.outputs.Go(func() { output("stdout", c.Out, p.outs[0], p.log) })
	p.outputs.Go(func() { output("stderr", c.Err, p.outs[1], p.log) })
}

// Exited is called when the process has ended. It returns when the host has
// all output and the connections are closed. What the process has left behind
// with its streams open is waited for.
func (p *Pipes) Exited() {
	p.in.Close()
	if p.input != nil {
		p.input.stop()
	}
	p.outputs.Wait()
}

// Abandon closes pipes that were never started.
func (p *Pipes) Abandon() {
	p.CloseChild()
	for _, f := range []*os.File{p.in, p.outs[0], p.outs[1]} {
		if f != nil {
			f.Close()
		}
	}
}

// Resize returns an error: there is no terminal.
func (p *Pipes) Resize(height, width uint16) error { return ErrNoTerminal }
