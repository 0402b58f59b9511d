package computecore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// States of a [System] before its end.
const (
	created = iota
	starting
	running
)

// A System is one virtual machine. It implements [hcs.System],
// [hcs.Processes] and [hcs.Hosted].
type System struct {
	e         *Engine
	id        string
	runtimeID guid.GUID
	internal  bool // the service speaks to the guest
	calls     caller
	watch     *watch
	changes   changes
	listeners listeners
	closing   func() error // Close, once

	mu    sync.Mutex // guards state
	state int
}

func newSystem(e *Engine, id string, h Handle) *System {
	s := &System{e: e, id: id, watch: newWatch()}
	s.calls = caller{e: e, id: id, h: hold(h, e.service.CloseSystem), call: e.service.CallSystem}
	s.watch.stopped = func() { s.listeners.end() }
	s.closing = sync.OnceValue(s.close)
	return s
}

// attach registers for events and learns what there is to know of the system.
func (s *System) attach(ctx context.Context) error {
	if err := s.watch.register(ctx, &s.calls, s.e.service.OnSystem); err != nil {
		return err
	}
	p, err := s.Properties(ctx)
	if err != nil {
		return err
	}
	if s.runtimeID, err = runtimeID(p); err != nil {
		return s.fail("create", "", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.State != "" && p.State != "Created" {
		s.state = running
	}
	return nil
}

// fail names what failed.
func (s *System) fail(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &hcs.Error{Op: op, System: s.id, Path: path, Err: err}
}

// do makes a call and turns a failure into an error.
func (s *System) do(ctx context.Context, op, path string, call Call, document string, late func(Result)) (Result, error) {
	r, err := s.calls.do(ctx, call, document, late)
	if err != nil {
		return r, s.fail(op, path, err)
	}
	return r, s.stop(r.failure(op, s.id, path))
}

// stop adds to a failure of the service that the system has stopped, if it
// has.
func (s *System) stop(err error) error {
	var e *hcs.Error
	if s.Err() != nil && errors.As(err, &e) && !errors.Is(err, hcs.ErrStopped) {
		e.Err = fmt.Errorf("%w: %w", hcs.ErrStopped, e.Err)
	}
	return err
}

// is checks the state.
func (s *System) is(state int) error {
	if s.Err() != nil {
		return hcs.ErrStopped
	}
	return s.was(state)
}

// was checks the state, or what it was when the system stopped.
func (s *System) was(state int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != state {
		return hcs.ErrInvalidState
	}
	return nil
}

// ID implements [hcs.System].
func (s *System) ID() string { return s.id }

// RuntimeID implements [hcs.System].
func (s *System) RuntimeID() guid.GUID { return s.runtimeID }

// Start implements [hcs.System]. If ctx ends while the service is at it, the
// system may yet start.
func (s *System) Start(ctx context.Context) error {
	const op = "start"
	if s.Err() != nil {
		return s.fail(op, "", hcs.ErrStopped)
	}
	if err := ctx.Err(); err != nil {
		return s.fail(op, "", err)
	}
	s.mu.Lock()
	if s.state != created {
		s.mu.Unlock()
		return s.fail(op, "", hcs.ErrInvalidState)
	}
	s.state = starting
	s.mu.Unlock()
	settle := func(ok bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.state = created
		if ok {
			s.state = running
		}
	}
	_, err := s.do(ctx, op, "", CallStart, "", func(r Result) { settle(!r.Failed()) })
	if !isPending(err) {
		settle(err == nil)
	}
	return err
}

// Properties implements [hcs.System].
func (s *System) Properties(ctx context.Context, types ...hcsschema.PropertyType) (*hcsschema.Properties, error) {
	const op = "properties"
	if s.Err() != nil {
		return nil, s.fail(op, "", hcs.ErrStopped)
	}
	p := new(hcsschema.Properties)
	if err := s.calls.properties(ctx, hcsschema.PropertyQuery{PropertyTypes: types}, p); err != nil {
		return nil, s.stop(err)
	}
	return p, nil
}

// Listen implements [hcs.System].
func (s *System) Listen(service hcs.ServiceID) (net.Listener, error) {
	if s.Err() != nil {
		return nil, s.fail("listen", service.String(), hcs.ErrStopped)
	}
	l, err := s.listeners.listen(s.e.sockets, s.runtimeID, service)
	if err != nil {
		if s.Err() != nil {
			err = fmt.Errorf("%w: %w", hcs.ErrStopped, err)
		}
		return nil, s.fail("listen", service.String(), err)
	}
	return l, nil
}

// Dial implements [hcs.System].
func (s *System) Dial(ctx context.Context, service hcs.ServiceID) (net.Conn, error) {
	err := s.is(running)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, s.fail("dial", service.String(), err)
	}
	ctx, cancel := s.watch.context(ctx)
	defer cancel(nil)
	d, err := do(ctx, s.e.timeout, func() dialled {
		c, err := s.e.sockets.Dial(ctx, s.runtimeID, service)
		return dialled{c, err}
	}, func(d dialled) {
		if d.err == nil {
			d.c.Close()
		}
	})
	if err == nil {
		err = d.err
	}
	if err != nil && s.Err() != nil {
		err = fmt.Errorf("%w: %w", hcs.ErrStopped, err)
	}
	return d.c, s.fail("dial", service.String(), err)
}

// Terminate implements [hcs.System].
func (s *System) Terminate(ctx context.Context) error {
	return s.watch.terminate(ctx, &s.calls)
}

// Done implements [hcs.System].
func (s *System) Done() <-chan struct{} { return s.watch.done }

// Err implements [hcs.System].
func (s *System) Err() error { return s.watch.err() }

// Close implements [hcs.System]. Calls that are under way are waited for; if
// one does not end within a minute, Close says so, and the handle is closed
// when it does.
func (s *System) Close() error { return s.closing() }

func (s *System) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.Terminate(ctx)
	if err2 := s.release(); err == nil {
		err = err2
	}
	return err
}

// abort ends a system whose end might never be reported.
func (s *System) abort() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_, err := s.do(ctx, "terminate", "", CallTerminate, "", dropped)
	return errors.Join(err, s.release())
}

// release closes the handle. The service terminates a system whose last
// handle is closed, if its document says so.
func (s *System) release() error {
	ok := s.calls.h.shut(closeTimeout)
	s.watch.end(&hcs.Exit{Kind: hcs.ExitTerminated, Detail: "its handle was closed"})
	if !ok {
		return s.fail("close", "", fmt.Errorf("calls are still under way: %w", errTimeout))
	}
	return nil
}

// errExternal is for what only the service's own connection can do.
var errExternal = fmt.Errorf("%w: the document has no GuestConnection", hcs.ErrNotSupported)

// CreateProcess implements [hcs.Processes].
func (s *System) CreateProcess(ctx context.Context, params any) (cow.Process, error) {
	err := s.is(running)
	if err == nil && !s.internal {
		err = errExternal
	}
	if err != nil {
		return nil, s.fail("create-process", "", err)
	}
	return newProcess(ctx, &s.calls, s.watch, params)
}

// exitPatience is how long a system that the service says has stopped may
// take to report its end.
const exitPatience = 10 * time.Second

var (
	_ hcs.System    = (*System)(nil)
	_ hcs.Processes = (*System)(nil)
	_ hcs.Hosted    = (*System)(nil)
)
