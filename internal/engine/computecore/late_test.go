package computecore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/test/wine/standin"
)

// leave makes a call, ends its context when the call has come to the service,
// and returns once the caller has got its error.
func (l *lab) leave(op string, call func(context.Context) error) {
	l.t.Helper()
	l.gate.hold(op)
	ctx, cancel := context.WithCancel(l.t.Context())
	defer cancel()
	errs := make(chan error, 1)
	go func() { errs <- call(ctx) }()
	<-l.gate.in
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		l.t.Errorf("%s: got error %v, want that of the context", op, err)
	}
}

// A system that was created too late is terminated and its handle closed.
func TestLateCreate(t *testing.T) {
	l := newLab(t, standin.Script{}, nil)
	l.leave(hcstest.OpCreate, func(ctx context.Context) error {
		_, err := l.Create(ctx, "vm", l.document(""))
		return err
	})
	l.gate.open() // newLab looks that nothing is left
}

// A start whose caller has gone goes on: until it is through there is no
// other.
func TestLateStart(t *testing.T) {
	l := newLab(t, standin.Script{}, nil)
	s, err := l.Create(t.Context(), "vm", l.document(""))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l.leave(hcstest.OpStart, s.Start)
	if err := s.Start(t.Context()); !errors.Is(err, hcs.ErrInvalidState) {
		t.Errorf("second start: got error %v, want %v", err, hcs.ErrInvalidState)
	}
	l.gate.open()
	for { // the state follows the result
		err := s.Modify(t.Context(), disk(hcsschema.Remove, ""))
		if errors.Is(err, hcs.ErrNotFound) {
			break
		}
		if !errors.Is(err, hcs.ErrInvalidState) {
			t.Fatalf("modify: %v", err)
		}
	}
}

// A disk that was added too late is taken out before anything else is done
// with its slot; one that was removed too late counts as removed by the next
// one.
func TestLateModify(t *testing.T) {
	l := newLab(t, standin.Script{}, nil)
	s := l.start("vm", "")
	ctx := t.Context()
	modify := func(req *hcsschema.ModifySettingRequest) func(context.Context) error {
		return func(ctx context.Context) error { return s.Modify(ctx, req) }
	}
	check := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: got error %v, want %v", what, err, want)
		}
	}
	l.leave(hcstest.OpModify, modify(disk(hcsschema.Add, "a")))
	next := make(chan error, 1)
	go func() { next <- s.Modify(ctx, disk(hcsschema.Add, "b")) }()
	l.gate.open()
	check("add after a late one", <-next, nil)

	l.leave(hcstest.OpModify, modify(disk(hcsschema.Remove, "")))
	l.gate.open()
	check("remove after a late one", s.Modify(ctx, disk(hcsschema.Remove, "")), nil)
	check("another", s.Modify(ctx, disk(hcsschema.Remove, "")), hcs.ErrNotFound)

	check("add", s.Modify(ctx, disk(hcsschema.Add, "c")), nil)
	l.leave(hcstest.OpModify, modify(disk(hcsschema.Remove, "")))
	l.gate.open()
	check("add after a late removal", s.Modify(ctx, disk(hcsschema.Add, "d")), nil)
	check("remove", s.Modify(ctx, disk(hcsschema.Remove, "")), nil)
}

// Who waits for another's change of the same thing does so no longer than the
// context, and the system, allow.
func TestWaitForTurn(t *testing.T) {
	l := newLab(t, standin.Script{}, nil)
	s := l.start("vm", "")
	l.leave(hcstest.OpModify, func(ctx context.Context) error { return s.Modify(ctx, disk(hcsschema.Add, "a")) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Modify(ctx, disk(hcsschema.Remove, "")); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that of the context", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- s.Modify(t.Context(), disk(hcsschema.Remove, "")) }()
	if err := s.Terminate(t.Context()); err != nil {
		t.Errorf("terminate: %v", err)
	}
	if err := <-waiting; !errors.Is(err, hcs.ErrStopped) {
		t.Errorf("got error %v, want %v", err, hcs.ErrStopped)
	}
	l.gate.open()
}

// A process that was created too late is killed and its handles are closed.
func TestLateProcess(t *testing.T) {
	l := newLab(t, standin.Script{}, nil)
	s := l.start("vm", internal)
	l.leave(hcstest.OpCreateProcess, func(ctx context.Context) error {
		_, err := s.(hcs.Processes).CreateProcess(ctx, hcsschema.ProcessParameters{CommandLine: "sleep", CreateStdOutPipe: true})
		return err
	})
	l.gate.open()
	for l.bench.Handles() != 1 || l.guest.Processes("vm") != 0 {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
}
