package hcstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
)

// A Program is what a process of a [Guest] runs. It returns the exit code. It
// returns when ctx ends, which a signal and the end of the machine bring
// about; the exit code is then 128 and the signal: of a Windows guest 15, or 9
// if it was killed.
type Program func(ctx context.Context, p *Process) int

// Echo returns a program that copies stdin to stdout and exits with code.
func Echo(code int) Program {
	return func(_ context.Context, p *Process) int {
		io.Copy(p.Stdout, p.Stdin)
		return code
	}
}

// Sleep is a program that runs until it gets a signal.
func Sleep(ctx context.Context, _ *Process) int {
	<-ctx.Done()
	return 0
}

// A Process is a process as its program sees it. Streams that were not asked
// for are empty and swallow what is written.
type Process struct {
	Container string // "" for one in the machine itself
	Pid       int
	Init      bool // it is the init process of its container
	Params    hcsschema.LinuxProcessParameters
	// Args are the arguments, from wherever the parameters have them; of an
	// init, from the container's specification.
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Resized has the last size of the terminal that was asked for.
	Resized <-chan hcsschema.ConsoleSize
}

const (
	sigKill = 9
	sigTerm = 15
)

// A guestProcess is in agent.processes until somebody has been told its exit.
type guestProcess struct {
	cid     string
	pid     uint32
	cancel  context.CancelFunc
	sig     atomic.Int32 // that killed it
	resized chan hcsschema.ConsoleSize
	code    uint32        // set before done is closed
	done    chan struct{} // closed when it has exited and its output is relayed
	ended   chan struct{} // closed when it has exited
	told    chan struct{} // closed when its exit has been told
	tell    sync.Once
}

func (p *guestProcess) exited() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *guestProcess) kill(sig int) {
	p.sig.CompareAndSwap(0, int32(sig))
	p.cancel()
}

func (a *agent) exec(_ context.Context, r *bridge.ExecuteProcessRequest) (*bridge.ExecuteProcessResponse, error) {
	prog := &Process{Container: r.ContainerID, Params: hcsschema.LinuxProcessParameters{}}
	if err := r.Settings.ProcessParameters.Decode(&prog.Params); err != nil {
		return nil, err
	}
	if r.ContainerID == bridge.NilContainer || prog.Params.CreateInUtilityVm {
		prog.Container = ""
	}
	prog.Args = prog.Params.CommandArgs
	if len(prog.Params.OciProcess) > 0 {
		var oci struct{ Args []string }
		if err := json.Unmarshal(prog.Params.OciProcess, &oci); err != nil {
			return nil, fmt.Errorf("%w: %w", bridge.ErrInvalidJSON, err)
		}
		prog.Args = oci.Args
	}
	prog.Init = a.os == "linux" && prog.Container != "" && len(prog.Params.OciProcess) == 0

	ctx, cancel := context.WithCancel(a.m.Context())
	p := &guestProcess{
		cid: prog.Container, cancel: cancel, resized: make(chan hcsschema.ConsoleSize, 1),
		done: make(chan struct{}), ended: make(chan struct{}), told: make(chan struct{}),
	}
	prog.Resized = p.resized
	ctr, err := a.addProcess(p, prog)
	if err != nil {
		cancel()
		return nil, err
	}
	io, err := a.connect(ctx, r.Settings, prog)
	if err != nil {
		cancel()
		a.mu.Lock()
		delete(a.processes, p.pid)
		if prog.Init {
			ctr.init = nil
		}
		a.mu.Unlock()
		return nil, err
	}
	a.m.Go(func() {
		a.run(ctx, p, prog, io)
		if prog.Init {
			a.initExited(ctr)
		}
	})
	return &bridge.ExecuteProcessResponse{ProcessID: p.pid}, nil
}

// addProcess gives a process its id.
func (a *agent) addProcess(p *guestProcess, prog *Process) (*guestContainer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var ctr *guestContainer
	if prog.Container != "" {
		var err error
		if ctr, err = a.container(prog.Container); err != nil {
			return nil, err
		}
		if ctr.ended || prog.Init && ctr.init != nil || !prog.Init && a.os == "linux" && ctr.init == nil {
			return nil, fmt.Errorf("%w: %s", bridge.ErrInvalidState, ctr.id)
		}
		if prog.Init {
			ctr.init, prog.Args = p, ctr.args
		}
	}
	p.pid = a.nextPid
	a.nextPid++
	prog.Pid = int(p.pid)
	a.processes[p.pid] = p
	return ctr, nil
}

func (a *agent) run(ctx context.Context, p *guestProcess, prog *Process, s *stdio) {
	program := a.g.Program
	if program == nil {
		program = Echo(0)
	}
	code := program(ctx, prog)
	if sig := p.sig.Load(); sig != 0 {
		code = 128 + int(sig)
	}
	p.cancel()
	close(p.ended)
	s.finish()
	p.code = uint32(code)
	close(p.done)
}

func (a *agent) process(pid uint32) (*guestProcess, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.processes[pid]
	if p == nil {
		return nil, fmt.Errorf("%w: process %d", bridge.ErrElementNotFound, pid)
	}
	return p, nil
}

func (a *agent) wait(ctx context.Context, r *bridge.WaitForProcessRequest) (*bridge.WaitForProcessResponse, error) {
	p, err := a.process(r.ProcessID)
	if err != nil {
		return nil, err
	}
	var timeout <-chan time.Time
	if r.TimeoutInMs != bridge.Infinite {
		t := time.NewTimer(time.Duration(r.TimeoutInMs) * time.Millisecond)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case <-p.done:
	case <-timeout:
		return nil, bridge.ErrTimeout
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	bridge.AfterResponse(ctx, func() {
		p.tell.Do(func() { close(p.told) })
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.processes, p.pid)
	})
	return &bridge.WaitForProcessResponse{ExitCode: p.code}, nil
}

func (a *agent) signal(_ context.Context, r *bridge.SignalProcessRequest) (*bridge.Response, error) {
	p, err := a.process(r.ProcessID)
	if err != nil {
		return nil, err
	}
	if p.exited() {
		return nil, fmt.Errorf("%w: process %d has exited", bridge.ErrElementNotFound, r.ProcessID)
	}
	sig := sigKill
	var o hcsschema.SignalProcessOptionsLCOW
	switch {
	case len(r.Options) > 0 && a.os == "windows": // its signals have no numbers
		sig = sigTerm
	case len(r.Options) > 0:
		if err := json.Unmarshal(r.Options, &o); err != nil {
			return nil, fmt.Errorf("%w: %w", bridge.ErrInvalidJSON, err)
		}
		if o.Signal != 0 {
			sig = o.Signal
		}
	}
	p.kill(sig)
	return nil, nil
}

func (a *agent) resize(_ context.Context, r *bridge.ResizeConsoleRequest) (*bridge.Response, error) {
	p, err := a.process(r.ProcessID)
	if err != nil {
		return nil, err
	}
	select { // the last size counts
	case <-p.resized:
	default:
	}
	select {
	case p.resized <- hcsschema.ConsoleSize{Height: int32(r.Height), Width: int32(r.Width)}:
	default:
	}
	return nil, nil
}

// services returns where the streams are to be connected; nil for none.
func services(s bridge.ExecuteProcessSettings) ([3]*hcs.ServiceID, error) {
	var ids [3]*hcs.ServiceID
	if s.Vsock != nil {
		for i, port := range []uint32{s.Vsock.In, s.Vsock.Out, s.Vsock.Err} {
			if port != 0 {
				id := hcs.VsockServiceID(port)
				ids[i] = &id
			}
		}
	}
	if s.Stdio != nil {
		for i, name := range []string{s.Stdio.In, s.Stdio.Out, s.Stdio.Err} {
			if name == "" {
				continue
			}
			g, err := guid.FromString(name)
			if err != nil {
				return ids, fmt.Errorf("%w: service %q", bridge.ErrInvalidJSON, name)
			}
			id := hcs.ServiceID(g)
			ids[i] = &id
		}
	}
	return ids, nil
}

// stdio relays the streams of a process.
type stdio struct {
	conns  [3]net.Conn
	in     *io.PipeReader // what the program reads
	out    [2]*io.PipeWriter
	relays sync.WaitGroup
}

// connect connects the streams in the order in which the real guest does.
func (a *agent) connect(ctx context.Context, settings bridge.ExecuteProcessSettings, prog *Process) (*stdio, error) {
	ids, err := services(settings)
	if err != nil {
		return nil, err
	}
	s := new(stdio)
	for i, id := range ids {
		if id == nil {
			continue
		}
		if s.conns[i], err = a.m.Dial(*id); err != nil {
			for _, c := range s.conns[:i] {
				if c != nil {
					c.Close()
				}
			}
			return nil, fmt.Errorf("%w: connecting stream %d: %w", bridge.ErrFail, i, err)
		}
	}
	r, w := io.Pipe()
	s.in, prog.Stdin = r, r
	if c := s.conns[0]; c != nil {
		s.relays.Go(func() {
			_, err := io.Copy(w, c)
			w.CloseWithError(err) // nil is end of file
		})
	} else {
		w.Close()
	}
	// The machine itself gives the sockets to the process; a container's
	// output is relayed, and the relay waits until the host has read it all.
	handshake := prog.Container != "" && a.os == "linux" && !prog.Params.EmulateConsole
	for i, std := range []*io.Writer{&prog.Stdout, &prog.Stderr} {
		c := s.conns[1+i]
		if *std = io.Discard; c == nil {
			continue
		}
		r, w := io.Pipe()
		s.out[i], *std = w, w
		context.AfterFunc(ctx, func() { w.Close() })
		s.relays.Go(func() { relayOut(c, r, handshake) })
	}
	context.AfterFunc(ctx, func() { s.in.CloseWithError(errKilled) })
	return s, nil
}

var errKilled = errors.New("killed")

func relayOut(c net.Conn, r *io.PipeReader, handshake bool) {
	defer c.Close()
	if _, err := io.Copy(c, r); err != nil {
		r.CloseWithError(err) // the program's writes fail as on a closed pipe
		return
	}
	if handshake {
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
		_, _ = c.Read(make([]byte, 1)) // the end of file says that all has been read
	}
}

// finish waits until the output has been relayed.
func (s *stdio) finish() {
	for _, w := range s.out {
		if w != nil {
			w.Close()
		}
	}
	s.in.Close()
	if c := s.conns[0]; c != nil {
		c.Close()
	}
	s.relays.Wait()
}
