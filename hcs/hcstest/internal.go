package hcstest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
)

// A connection is the internal guest connection of a system: the engine
// itself speaks to the guest.
type connection struct {
	s     *System
	l     net.Listener
	ready chan struct{} // closed when c or err has been set
	c     *bridge.Client
	err   error
}

func newConnection(s *System) *connection {
	service := hcs.VsockServiceID(hcs.BridgePort)
	if (&Machine{system: s}).OS() == "windows" {
		service = hcs.WindowsBridge
	}
	c := &connection{s: s, ready: make(chan struct{})}
	c.l, c.err = s.net.listen(hostSide, service) // cannot fail in a new network
	return c
}

// run accepts the guest's connection and keeps it until ctx ends.
func (c *connection) run(ctx context.Context) {
	defer c.l.Close()
	conn, err := c.l.Accept() // ends with the system
	if err == nil {
		c.c, err = bridge.Connect(ctx, conn, bridge.Config{Listen: func(port uint32) (net.Listener, error) {
			return c.s.net.listen(hostSide, hcs.VsockServiceID(port))
		}})
	}
	c.err = err
	close(c.ready)
	if err == nil {
		<-ctx.Done()
		c.c.Close()
	}
}

// client waits for the guest.
func (c *connection) client(ctx context.Context) (*bridge.Client, error) {
	select {
	case <-c.ready:
		return c.c, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.s.done:
		return nil, hcs.ErrStopped
	}
}

// modify sends the guest's part of a change. Without a guest it succeeds.
func (c *connection) modify(ctx context.Context, request any) error {
	if c.s.e.config.Boot == nil {
		return nil
	}
	cl, err := c.client(ctx)
	if err == nil {
		err = cl.Modify(ctx, request)
	}
	return c.translate(err)
}

// translate gives errors of the bridge the meaning that they have in package
// hcs.
func (c *connection) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case c.s.Err() != nil:
		return fmt.Errorf("%w: %w", hcs.ErrStopped, err)
	case bridge.IsNotFound(err):
		return fmt.Errorf("%w: %w", hcs.ErrNotFound, err)
	case bridge.IsAlreadyExists(err):
		return fmt.Errorf("%w: %w", hcs.ErrAlreadyExists, err)
	case bridge.IsNotSupported(err):
		return fmt.Errorf("%w: %w", hcs.ErrNotSupported, err)
	}
	return err
}

var errExternal = fmt.Errorf("%w: the document has no GuestConnection", hcs.ErrNotSupported)

// CreateProcess implements [hcs.Processes].
func (s *System) CreateProcess(ctx context.Context, params any) (p cow.Process, err error) {
	err = s.do(ctx, OpCreateProcess, "", stateRunning, params, func() error {
		if s.internal == nil {
			return errExternal
		}
		c, err := s.internal.client(ctx)
		if err == nil {
			p, err = c.CreateProcess(ctx, params)
		}
		return s.internal.translate(err)
	})
	if err != nil {
		return nil, err
	}
	return &process{Process: p, s: s, id: s.id}, nil
}

// CreateHosted implements [hcs.Hosted].
func (s *System) CreateHosted(ctx context.Context, id string, doc hcs.Document) (cow.Container, error) {
	var ctr cow.Container
	err := s.e.rec.do(ctx, Call{Op: OpCreate, System: id}, doc, func() error {
		if err := s.check(stateRunning); err != nil {
			return err
		}
		if s.internal == nil {
			return errExternal
		}
		var cs struct {
			HostingSystemId string
			HostedSystem    json.RawMessage
		}
		if err := json.Unmarshal(doc, &cs); err != nil {
			return err
		}
		if cs.HostingSystemId != s.id {
			return fmt.Errorf("%w: HostingSystemId %q", hcs.ErrNotFound, cs.HostingSystemId)
		}
		c, err := s.internal.client(ctx)
		if err == nil {
			ctr, err = c.CreateContainer(ctx, id, cs.HostedSystem)
		}
		return s.internal.translate(err)
	})
	if err != nil {
		return nil, &hcs.Error{Op: OpCreate, System: id, Err: err}
	}
	return &container{Container: ctr, s: s}, nil
}

// A container records what is asked of a hosted container.
type container struct {
	cow.Container
	s *System
}

// IsOCI is false: the Host Compute Service takes its own parameters.
func (c *container) IsOCI() bool { return false }

func (c *container) do(ctx context.Context, op string, f func(context.Context) error) error {
	err := c.s.e.rec.do(ctx, Call{Op: op, System: c.ID()}, nil, func() error { return c.s.internal.translate(f(ctx)) })
	if err != nil {
		return &hcs.Error{Op: op, System: c.ID(), Err: err}
	}
	return nil
}

func (c *container) Start(ctx context.Context) error {
	return c.do(ctx, OpStart, c.Container.Start)
}

func (c *container) Shutdown(ctx context.Context) error {
	return c.do(ctx, OpShutdown, c.Container.Shutdown)
}

func (c *container) Terminate(ctx context.Context) error {
	return c.do(ctx, OpTerminate, c.Container.Terminate)
}

func (c *container) Close() error {
	return c.do(context.Background(), OpClose, func(context.Context) error { return c.Container.Close() })
}

func (c *container) CreateProcess(ctx context.Context, params any) (cow.Process, error) {
	var p cow.Process
	err := c.s.e.rec.do(ctx, Call{Op: OpCreateProcess, System: c.ID()}, params, func() (err error) {
		p, err = c.Container.CreateProcess(ctx, params)
		return c.s.internal.translate(err)
	})
	if err != nil {
		return nil, &hcs.Error{Op: OpCreateProcess, System: c.ID(), Err: err}
	}
	return &process{Process: p, s: c.s, id: c.ID()}, nil
}

// A process records what is asked of a process.
type process struct {
	cow.Process
	s  *System
	id string
}

func (p *process) do(ctx context.Context, op string, doc any, f func() error) error {
	err := p.s.e.rec.do(ctx, Call{Op: op, System: p.id}, doc, f)
	if err != nil {
		return &hcs.Error{Op: op, System: p.id, Err: err}
	}
	return nil
}

func (p *process) CloseStdin(ctx context.Context) error {
	req := hcsschema.ProcessModifyRequest{
		Operation:   hcsschema.ModifyCloseHandle,
		CloseHandle: &hcsschema.CloseHandle{Handle: hcsschema.HandleStdIn},
	}
	return p.do(ctx, OpModifyProcess, req, func() error { return p.Process.CloseStdin(ctx) })
}

func (p *process) ResizeConsole(ctx context.Context, width, height uint16) error {
	req := hcsschema.ProcessModifyRequest{
		Operation:   hcsschema.ModifyConsoleSize,
		ConsoleSize: &hcsschema.ConsoleSize{Height: int32(height), Width: int32(width)},
	}
	return p.do(ctx, OpModifyProcess, req, func() error { return p.Process.ResizeConsole(ctx, width, height) })
}

func (p *process) Signal(ctx context.Context, options any) (delivered bool, err error) {
	if options == nil {
		return p.Kill(ctx)
	}
	err = p.do(ctx, OpSignalProcess, options, func() (err error) {
		delivered, err = p.Process.Signal(ctx, options)
		return err
	})
	return delivered, err
}

func (p *process) Kill(ctx context.Context) (delivered bool, err error) {
	err = p.do(ctx, OpKillProcess, nil, func() (err error) {
		delivered, err = p.Process.Kill(ctx)
		return err
	})
	return delivered, err
}

var (
	_ hcs.Processes = (*System)(nil)
	_ hcs.Hosted    = (*System)(nil)
	_ hcs.Granter   = (*Engine)(nil)
)
