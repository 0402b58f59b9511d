package hcstest

import (
	"net"
	"strings"
	"sync"
	"time"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A system has the id that it was given and an address of its own; it has not
// started.
func testCreate(e *env) {
	a, b := e.id(), e.id()
	s1, s2 := e.create(a), e.create(b)
	if s1.ID() != a || s2.ID() != b {
		e.Errorf("ids are %q, %q, want %q, %q", s1.ID(), s2.ID(), a, b)
	}
	if s1.RuntimeID() == s2.RuntimeID() || s1.RuntimeID() == (guid.GUID{}) {
		e.Errorf("runtime ids are %v and %v", s1.RuntimeID(), s2.RuntimeID())
	}
	e.running(s1)
	e.want(s1.Modify(e.Context(), removeDisk(0)), hcs.ErrInvalidState, "modify before start")
}

// An id is taken from Create until Close.
func testCreateDuplicate(e *env) {
	s := e.create(e.id())
	_, err := e.f.Engine.Create(e.Context(), s.ID(), e.document(""))
	e.want(err, hcs.ErrAlreadyExists, "second create")
	e.running(s)
	if err := s.Close(); err != nil {
		e.Fatalf("close: %v", err)
	}
	e.create(s.ID())
}

// What cannot be honoured is refused by name, before anything is made.
func testCreateRefused(e *env) {
	if len(e.f.Refused) == 0 {
		e.Logf("not tested: the engine refuses nothing")
		return
	}
	for member, extra := range e.f.Refused {
		e.Run(member, func(t T) {
			c := &env{T: t, suite: e.suite}
			id := c.id()
			s, err := c.f.Engine.Create(c.Context(), id, c.document(extra))
			c.want(err, hcs.ErrNotSupported, "create")
			if err == nil {
				s.Close()
			} else if !strings.Contains(err.Error(), member) {
				c.Errorf("%q does not name the member %s", err, member)
			}
			c.create(id) // the id is free
		})
	}
}

// Nothing is made for a context that has ended.
func testCreateCancelled(e *env) {
	id, ctx := e.id(), cancelled(e)
	s, err := e.f.Engine.Create(ctx, id, e.document(""))
	e.want(err, ctx.Err(), "create")
	if err == nil {
		s.Close()
	}
	e.create(id)
}

// A system starts once.
func testStart(e *env) {
	s := e.create(e.id())
	ctx := cancelled(e)
	e.want(s.Start(ctx), ctx.Err(), "start with a context that has ended")
	if err := s.Close(); err != nil {
		e.Errorf("close: %v", err)
	}
	s = e.start()
	e.running(s)
	e.want(s.Start(e.Context()), hcs.ErrInvalidState, "second start")
	e.running(s)
}

func testProperties(e *env) {
	s := e.start()
	p, err := s.Properties(e.Context())
	if err != nil {
		e.Fatalf("properties: %v", err)
	}
	if p.Id != s.ID() || !strings.EqualFold(p.RuntimeId, s.RuntimeID().String()) || p.State != stateRunning {
		e.Errorf("properties are %+v, want id %s, runtime id %v, state %s", p, s.ID(), s.RuntimeID(), stateRunning)
	}
	p, err = s.Properties(e.Context(), hcsschema.PTMemory, hcsschema.PTStatistics)
	if err != nil {
		e.Fatalf("properties: %v", err)
	}
	if p.Id != s.ID() {
		e.Errorf("the basic properties are missing when others are asked for: %+v", p)
	}
	if p.Memory == nil || p.Memory.VirtualMachineMemory == nil || p.Memory.VirtualMachineMemory.AssignedMemory == 0 {
		e.Errorf("memory is %+v", p.Memory)
	}
	if p.Statistics == nil {
		e.Errorf("there are no statistics")
	}
}

// Listeners may be there before the system starts, one for each service, and
// end with it.
func testListen(e *env) {
	s := e.create(e.id())
	a, b := hcs.VsockServiceID(5001), hcs.VsockServiceID(5002)
	la, err := s.Listen(a)
	if err != nil {
		e.Fatalf("listen: %v", err)
	}
	_, err = s.Listen(a)
	e.want(err, hcs.ErrAlreadyExists, "second listen")
	lb, err := s.Listen(b)
	if err != nil {
		e.Fatalf("listen to another service: %v", err)
	}
	if err := s.Start(e.Context()); err != nil {
		e.Fatalf("start: %v", err)
	}
	if err := la.Close(); err != nil {
		e.Errorf("closing a listener: %v", err)
	}
	if _, err := la.Accept(); err == nil {
		e.Errorf("a closed listener accepts")
	}
	la, err = s.Listen(a)
	if err != nil {
		e.Fatalf("listen again: %v", err)
	}
	accepted := make(chan error, 2)
	for _, l := range []net.Listener{la, lb} {
		go func() {
			c, err := l.Accept()
			if err == nil {
				c.Close()
			}
			accepted <- err
		}()
	}
	if err := s.Terminate(e.Context()); err != nil {
		e.Errorf("terminate: %v", err)
	}
	for range 2 {
		select {
		case err := <-accepted:
			if err == nil {
				e.Errorf("a connection was accepted that nobody opened")
			}
		case <-time.After(waitLimit):
			e.Fatalf("a listener still waits after its system has stopped")
		}
	}
}

// Dial ends with its context, and with the system.
func testDial(e *env) {
	s := e.start()
	ctx := cancelled(e)
	if c, err := s.Dial(ctx, hcs.VsockServiceID(5003)); err == nil {
		e.Errorf("dialled with a context that has ended")
		c.Close()
	}
	dialled := make(chan error, 1)
	go func() {
		c, err := s.Dial(e.Context(), hcs.VsockServiceID(5003))
		if err == nil {
			c.Close()
		}
		dialled <- err
	}()
	if err := s.Terminate(e.Context()); err != nil {
		e.Errorf("terminate: %v", err)
	}
	select {
	case err := <-dialled:
		if err == nil {
			e.Errorf("dialled a service that nobody offers")
		}
	case <-time.After(waitLimit):
		e.Fatalf("Dial still waits after its system has stopped")
	}
}

// Terminate stops a system, says so, and does nothing the second time.
func testTerminate(e *env) {
	s := e.start()
	for range 2 {
		if err := s.Terminate(e.Context()); err != nil {
			e.Fatalf("terminate: %v", err)
		}
		e.stopped(s, hcs.ExitTerminated)
	}
}

func testTerminateCreated(e *env) {
	s := e.create(e.id())
	if err := s.Terminate(e.Context()); err != nil {
		e.Fatalf("terminate: %v", err)
	}
	e.stopped(s, hcs.ExitTerminated)
	e.want(s.Start(e.Context()), hcs.ErrStopped, "start after terminate")
}

func testTerminateConcurrent(e *env) {
	s := e.start()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.Terminate(e.Context()); err != nil {
				e.Errorf("terminate: %v", err)
			}
			select {
			case <-s.Done():
			default:
				e.Errorf("terminate returned before the system had stopped")
			}
		})
	}
	wg.Wait()
	e.stopped(s, hcs.ExitTerminated)
}

// A stopped system answers nothing but that it has stopped.
func testUseAfterStop(e *env) {
	s := e.start()
	disk := e.disk(s)
	if err := s.Terminate(e.Context()); err != nil {
		e.Fatalf("terminate: %v", err)
	}
	for range 2 { // before and after Close
		e.want(s.Start(e.Context()), hcs.ErrStopped, "start")
		e.want(s.Modify(e.Context(), addDisk(0, disk)), hcs.ErrStopped, "add")
		e.want(s.Modify(e.Context(), removeDisk(0)), hcs.ErrStopped, "remove")
		_, err := s.Properties(e.Context())
		e.want(err, hcs.ErrStopped, "properties")
		_, err = s.Listen(hcs.VsockServiceID(5004))
		e.want(err, hcs.ErrStopped, "listen")
		_, err = s.Dial(e.Context(), hcs.VsockServiceID(5004))
		e.want(err, hcs.ErrStopped, "dial")
		if err := s.Close(); err != nil {
			e.Errorf("close: %v", err)
		}
		e.stopped(s, hcs.ExitTerminated)
	}
}

// Close stops a running system, and may be called again and at once.
func testClose(e *env) {
	s := e.start()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.Close(); err != nil {
				e.Errorf("close: %v", err)
			}
		})
	}
	wg.Wait()
	e.stopped(s, hcs.ExitTerminated)
	if s.ID() == "" || s.RuntimeID() == (guid.GUID{}) {
		e.Errorf("a closed system has lost its ids")
	}
}

func testCloseCreated(e *env) {
	s := e.create(e.id())
	for range 2 {
		if err := s.Close(); err != nil {
			e.Errorf("close: %v", err)
		}
	}
	e.stopped(s, hcs.ExitTerminated)
}

// The ends of a system are told apart, and stay what they were.
func testEnds(e *env) {
	if len(e.f.Ends) == 0 {
		e.Logf("not tested: the fixture has no ends")
		return
	}
	for name, end := range e.f.Ends {
		e.Run(name, func(t T) {
			c := &env{T: t, suite: e.suite}
			s := c.start()
			end.Do(t, s)
			c.stopped(s, end.Kind)
			if err := s.Terminate(c.Context()); err != nil {
				c.Errorf("terminate: %v", err)
			}
			if err := s.Close(); err != nil {
				c.Errorf("close: %v", err)
			}
			c.stopped(s, end.Kind)
		})
	}
}
