package hcstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A System is one virtual machine in memory.
type System struct {
	e         *Engine
	id        string
	doc       *hcsschema.ComputeSystem
	runtimeID guid.GUID
	devices   *devices
	net       *network
	internal  *connection // nil with an external guest connection
	done      chan struct{}
	wg        sync.WaitGroup // of what the machine runs

	mu    sync.Mutex // guards what follows
	state string
	exit  *hcs.Exit // set before done is closed
	stop  context.CancelFunc
}

// States of a system, as Properties has them.
const (
	stateCreated = "Created"
	stateRunning = "Running"
	stateStopped = "Stopped"
)

func newSystem(e *Engine, id string, cs *hcsschema.ComputeSystem, runtimeID guid.GUID, d *devices) *System {
	s := &System{e: e, id: id, doc: cs, runtimeID: runtimeID, devices: d, done: make(chan struct{}), state: stateCreated}
	s.net = newNetwork()
	if cs.VirtualMachine.GuestConnection != nil {
		s.internal = newConnection(s)
	}
	return s
}

// ID implements [hcs.System].
func (s *System) ID() string { return s.id }

// RuntimeID implements [hcs.System].
func (s *System) RuntimeID() guid.GUID { return s.runtimeID }

// Devices returns the settings of everything that is attached, by resource
// path; a share by path, "#" and its name.
func (s *System) Devices() map[string]json.RawMessage { return s.devices.list() }

// Open returns how many listeners and connections the system has.
func (s *System) Open() (listeners, conns int) { return s.net.open() }

// do records a call and does f if the system is in the state that it needs
// ("" is any but stopped).
func (s *System) do(ctx context.Context, op, path, state string, doc any, f func() error) error {
	err := s.e.rec.do(ctx, Call{Op: op, System: s.id, Path: path}, doc, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.check(state); err != nil {
			return err
		}
		return f()
	})
	if err != nil {
		return &hcs.Error{Op: op, System: s.id, Path: path, Err: err}
	}
	return nil
}

func (s *System) check(state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state == stateStopped:
		return hcs.ErrStopped
	case state != "" && state != s.state:
		return fmt.Errorf("%w: %s", hcs.ErrInvalidState, s.state)
	}
	return nil
}

// Start implements [hcs.System].
func (s *System) Start(ctx context.Context) error {
	return s.do(ctx, OpStart, "", stateCreated, nil, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.state != stateCreated { // another call was first
			return hcs.ErrInvalidState
		}
		s.state = stateRunning
		run, cancel := context.WithCancel(context.Background())
		s.stop = cancel
		if s.internal != nil {
			s.wg.Go(func() { s.internal.run(run) })
		}
		if boot := s.e.config.Boot; boot != nil {
			s.wg.Go(func() { boot(&Machine{system: s, ctx: run}) })
		}
		return nil
	})
}

// Modify implements [hcs.System].
func (s *System) Modify(ctx context.Context, req *hcsschema.ModifySettingRequest) error {
	return s.do(ctx, OpModify, req.ResourcePath, stateRunning, req, func() error {
		if req.GuestRequest != nil && s.internal == nil {
			return fmt.Errorf("%w: member \"GuestRequest\" without GuestConnection", hcs.ErrNotSupported)
		}
		guest := func() error { return nil }
		if req.GuestRequest != nil {
			guest = func() error { return s.internal.modify(ctx, req.GuestRequest) }
		}
		if req.ResourcePath == "" {
			if req.GuestRequest == nil {
				return fmt.Errorf("%w: a request without ResourcePath", hcs.ErrNotSupported)
			}
			return guest()
		}
		if req.RequestType == hcsschema.Remove {
			if err := guest(); err != nil {
				return err
			}
			_, err := s.devices.apply(req)
			return err
		}
		undo, err := s.devices.apply(req)
		if err != nil {
			return err
		}
		if err := guest(); err != nil {
			undo()
			return err
		}
		return nil
	})
}

// Listen implements [hcs.System].
func (s *System) Listen(service hcs.ServiceID) (l net.Listener, err error) {
	err = s.do(context.Background(), OpListen, service.String(), "", nil, func() (err error) {
		l, err = s.net.listen(hostSide, service)
		return err
	})
	return l, err
}

// Dial implements [hcs.System].
func (s *System) Dial(ctx context.Context, service hcs.ServiceID) (c net.Conn, err error) {
	err = s.do(ctx, OpDial, service.String(), stateRunning, nil, func() (err error) {
		c, err = s.net.dial(ctx, guestSide, service)
		return err
	})
	return c, err
}

// Exit ends the system for the reason e, as if it had happened by itself. It
// does nothing if the system has stopped.
func (s *System) Exit(e *hcs.Exit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateStopped {
		return
	}
	s.state, s.exit = stateStopped, e
	if s.stop != nil {
		s.stop()
	}
	s.net.end()
	close(s.done)
}

// Terminate implements [hcs.System].
func (s *System) Terminate(ctx context.Context) error {
	err := s.e.rec.do(ctx, Call{Op: OpTerminate, System: s.id}, nil, func() error {
		s.Exit(&hcs.Exit{Kind: hcs.ExitTerminated})
		return nil
	})
	if err != nil {
		return &hcs.Error{Op: OpTerminate, System: s.id, Err: err}
	}
	return nil
}

// Done implements [hcs.System].
func (s *System) Done() <-chan struct{} { return s.done }

// Err implements [hcs.System].
func (s *System) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exit == nil {
		return nil
	}
	return s.exit
}

// Close implements [hcs.System]. It waits for what the machine runs.
func (s *System) Close() error {
	ctx := context.Background()
	if s.check("") == nil {
		s.Terminate(ctx) // remove ends it if the hook fails this
	}
	err := s.e.rec.do(ctx, Call{Op: OpClose, System: s.id}, nil, func() error { return nil })
	s.remove()
	if err != nil {
		return &hcs.Error{Op: OpClose, System: s.id, Err: err}
	}
	return nil
}

func (s *System) remove() {
	s.Exit(&hcs.Exit{Kind: hcs.ExitTerminated})
	s.wg.Wait()
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.e.systems[s.id] == s {
		delete(s.e.systems, s.id)
	}
}

// decode reads a document, strictly if the engine is. One that is not takes
// what it understands.
func (e *Engine) decode(doc hcs.Document, cs *hcsschema.ComputeSystem) error {
	if e.config.Strict {
		return doc.Decode(cs)
	}
	err := json.Unmarshal(doc, cs)
	var other *json.UnmarshalTypeError
	if errors.As(err, &other) { // the members that are of the right type are there
		return nil
	}
	return err
}
