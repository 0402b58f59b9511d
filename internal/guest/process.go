//go:build linux

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/internal/guest/reaper"
)

// streams are the standard streams of a process; see package stdio.
type streams interface {
	Exited()
	Resize(height, width uint16) error
}

// A process is one that the host knows by its id: until it has been told how
// the process ended.
type process struct {
	pid       uint32
	cid       string     // its container, or bridge.NilContainer
	container *container // nil in the machine itself
	init      bool       // of its container
	child     *reaper.Child
	io        streams

	done chan struct{} // closed when the process has ended and its output is with the host
	code uint32        // valid when done is closed
}

// register makes a running process known, lets begin start its streams, and
// watches it.
func (a *agent) register(p *process, begin func()) error {
	p.pid = uint32(p.child.PID())
	p.done = make(chan struct{})
	a.mu.Lock()
	full := len(a.processes) >= maxProcesses
	if !full {
		// The id is free again when its process has been collected, whatever
		// the host still wants to know of that.
		a.processes[p.pid] = p
	}
	a.mu.Unlock()
	if full {
		return fmt.Errorf("there are %d processes already", maxProcesses)
	}
	begin()
	go a.watch(p)
	return nil
}

func (a *agent) watch(p *process) {
	<-p.child.Done()
	if p.init {
		p.container.initEnded()
	}
	p.io.Exited()
	p.code = exitCode(p.child.Status(), p.container != nil)
	close(p.done)
	a.log.Debug("process exited", "cid", p.cid, "pid", p.pid, "code", p.code)
}

// exitCode is 128 and the signal for a container's process that a signal
// ended, and for one of the machine all ones.
func exitCode(ws syscall.WaitStatus, contained bool) uint32 {
	switch {
	case !ws.Signaled():
		return uint32(ws.ExitStatus())
	case contained:
		return 128 + uint32(ws.Signal())
	}
	return 0xffffffff
}

// wait answers when a process has ended. The first answer that reaches the
// host is the last that it can ask for.
func (a *agent) wait(ctx context.Context, req *bridge.WaitForProcessRequest) (*bridge.WaitForProcessResponse, error) {
	p, err := a.process(req.ContainerID, req.ProcessID)
	if err != nil {
		return nil, notFound(err)
	}
	var timeout <-chan time.Time
	if req.TimeoutInMs != bridge.Infinite {
		t := time.NewTimer(time.Duration(req.TimeoutInMs) * time.Millisecond)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-p.done:
	case <-timeout:
		select {
		case <-p.done: // both at once
		default:
			return nil, fmt.Errorf("process %d: %w", p.pid, bridge.ErrTimeout)
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	bridge.AfterResponse(ctx, func() {
		if ctx.Err() == nil { // else the answer may not have got out
			a.told(p)
		}
	})
	return &bridge.WaitForProcessResponse{ExitCode: p.code}, nil
}

// told forgets a process of which the host knows how it ended.
func (a *agent) told(p *process) {
	a.mu.Lock()
	if a.processes[p.pid] == p {
		delete(a.processes, p.pid)
	}
	a.mu.Unlock()
	if p.init {
		a.notifyExit(p.container)
	}
}

// notFound makes an unknown container an unknown process, as the wait for one
// has it.
func notFound(err error) error {
	if errors.Is(err, bridge.ErrNoContainer) {
		return fmt.Errorf("%w: %v", bridge.ErrElementNotFound, err) //nolint:errorlint // the host must not see both
	}
	return err
}

// signal sends a signal to one process and to no other.
func (a *agent) signal(ctx context.Context, req *bridge.SignalProcessRequest) (*bridge.Response, error) {
	var o hcsschema.SignalProcessOptionsLCOW
	if len(req.Options) > 0 {
		if err := json.Unmarshal(req.Options, &o); err != nil {
			return nil, fmt.Errorf("%w: %w", bridge.ErrInvalidJSON, err)
		}
	}
	sig := syscall.Signal(o.Signal)
	switch {
	case sig == 0:
		sig = unix.SIGKILL
	case sig < 0 || sig > 64:
		return nil, fmt.Errorf("there is no signal %d", o.Signal)
	}
	p, err := a.process(req.ContainerID, req.ProcessID)
	if err != nil {
		return nil, err
	}
	if p.init {
		p.container.noteSignal(sig)
	}
	err = p.child.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("process %d: %w", p.pid, bridge.ErrElementNotFound)
	}
	return nil, err
}

// resize sets the size of a process's terminal.
func (a *agent) resize(ctx context.Context, req *bridge.ResizeConsoleRequest) (*bridge.Response, error) {
	p, err := a.process(req.ContainerID, req.ProcessID)
	if err != nil {
		return nil, err
	}
	return nil, p.io.Resize(req.Height, req.Width)
}
