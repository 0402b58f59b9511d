package computecore

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/byrevm/byre/hcs"
)

// A watch sees the end of a system: a virtual machine or a container.
type watch struct {
	done    chan struct{} // closed when it has stopped
	stopped func()        // called after that, in a goroutine of its own

	mu    sync.Mutex
	asked bool         // it is being terminated by us
	crash *crashReport // what the guest reported
	exit  *hcs.Exit    // set before done is closed
	lost  error        // why the service does not report the end; set like exit
}

func newWatch() *watch { return &watch{done: make(chan struct{}), stopped: func() {}} }

// register has the service deliver events to w.
func (w *watch) register(ctx context.Context, c *caller, on func(Handle, func(Event)) Result) error {
	if err := ctx.Err(); err != nil {
		return &hcs.Error{Op: "register", System: c.id, Err: err}
	}
	if !c.h.use() {
		return &hcs.Error{Op: "register", System: c.id, Err: hcs.ErrStopped}
	}
	r, err := do(ctx, c.e.timeout, func() Result {
		defer c.h.release()
		return on(c.h.h, w.event)
	}, dropped)
	if err != nil {
		return &hcs.Error{Op: "register", System: c.id, Err: err}
	}
	return r.failure("register", c.id, "")
}

// event takes what the service reports. It does not block.
func (w *watch) event(ev Event) {
	switch ev.Type {
	case EventSystemCrashInitiated, EventSystemCrashReport:
		c := new(crashReport)
		_ = json.Unmarshal([]byte(ev.Document), c) // that it crashed is what counts
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.crash == nil || c.CrashLog != "" || len(c.CrashParameters) > 0 {
			w.crash = c
		}
	case EventSystemExited:
		w.mu.Lock()
		asked, crash := w.asked, w.crash
		w.mu.Unlock()
		w.end(exitOf(ev.Document, asked, crash))
	case EventServiceDisconnect:
		x := &hcs.Exit{Kind: hcs.ExitOther, Code: codeDisconnected, Detail: "the Host Compute Service has disconnected"}
		w.lose(x, x)
	}
}

// end says why the system has stopped, unless that is known.
func (w *watch) end(x *hcs.Exit) { w.lose(x, nil) }

// lose is end for an end that the service does not report.
func (w *watch) lose(x *hcs.Exit, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.exit != nil {
		return
	}
	w.exit, w.lost = x, err
	close(w.done)
	go w.stopped()
}

// wait returns when the system has stopped, and an error if that is not known
// from the service.
func (w *watch) wait() error {
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// err is why the system has stopped, nil while it has not.
func (w *watch) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.exit == nil {
		return nil
	}
	return w.exit
}

// context returns one that ends with ctx or with the system.
func (w *watch) context(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() { // ends with the context
		select {
		case <-w.done:
			cancel(hcs.ErrStopped)
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// terminate ends the system by force and waits until it has stopped. It asks
// the service also if it has stopped: as long as there is a handle, the
// service may hold something of it.
func (w *watch) terminate(ctx context.Context, c *caller) error {
	const op = "terminate"
	w.mu.Lock()
	over := w.exit != nil
	gone := w.lost != nil
	w.asked = w.asked || !over && ctx.Err() == nil
	w.mu.Unlock()
	if gone {
		return nil
	}
	r, err := c.do(ctx, CallTerminate, "", dropped)
	if over || w.err() != nil { // as was wanted
		return nil
	}
	if err != nil {
		return &hcs.Error{Op: op, System: c.id, Err: err}
	}
	// A second client may have been first, and the end may be on its way.
	stopped := r.is(codeAlreadyStopped, codeSystemNotFound)
	if r.Failed() && !stopped {
		return r.failure(op, c.id, "")
	}
	var late <-chan time.Time
	if stopped {
		t := time.NewTimer(exitPatience)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-w.done:
	case <-late:
		w.end(&hcs.Exit{Kind: hcs.ExitOther, Code: r.Code, Detail: "the service did not report its end"})
	case <-ctx.Done():
		return &hcs.Error{Op: op, System: c.id, Err: fmt.Errorf("waiting for the end: %w", ctx.Err())}
	}
	return nil
}
