package computecore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/byrevm/byre/hcs"
)

// defaultTimeout limits a call whose context has no earlier end.
const defaultTimeout = 4 * time.Minute

// closeTimeout is how long Close waits for what is under way.
const closeTimeout = time.Minute

// do runs f, which blocks in the service, and returns its value. If ctx ends
// first, or limit has passed, the error says so and late gets the value when
// it comes; see isPending. The caller has looked that ctx has not ended yet.
func do[T any](ctx context.Context, limit time.Duration, f func() T, late func(T)) (v T, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTimeout)
	defer cancel()
	answer, gone := make(chan T), make(chan struct{})
	go func() { // ends with the operation
		v := f()
		select {
		case answer <- v:
		case <-gone:
			late(v)
		}
	}()
	select {
	case v = <-answer:
		return v, nil
	case <-ctx.Done():
		close(gone)
		err := ctx.Err()
		if errors.Is(context.Cause(ctx), errTimeout) {
			err = errTimeout
		}
		return v, &pendingError{err}
	}
}

// A pendingError is why a caller did not wait for its call, which goes on.
type pendingError struct{ err error }

func (e *pendingError) Error() string { return e.err.Error() }
func (e *pendingError) Unwrap() error { return e.err }

// isPending reports whether the call that failed with err goes on, and its
// late function is yet to be called.
func isPending(err error) bool {
	var p *pendingError
	return errors.As(err, &p)
}

// A held handle stays open while a call uses it.
type held struct {
	h     Handle
	close func(Handle)

	mu     sync.Mutex
	uses   int
	closed bool          // no further use
	gone   chan struct{} // closed when close has been called
}

func hold(h Handle, close func(Handle)) *held {
	return &held{h: h, close: close, gone: make(chan struct{})}
}

// use reports whether the handle can be used; release follows then.
func (h *held) use() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.uses++
	return true
}

func (h *held) release() {
	h.mu.Lock()
	h.uses--
	last := h.closed && h.uses == 0
	h.mu.Unlock()
	if last {
		h.end()
	}
}

func (h *held) end() {
	h.close(h.h)
	close(h.gone)
}

// shut closes the handle when nothing uses it any more, and waits for that at
// most for limit. It reports whether the handle is closed.
func (h *held) shut(limit time.Duration) bool {
	h.mu.Lock()
	last := !h.closed && h.uses == 0
	h.closed = true
	h.mu.Unlock()
	if last {
		h.end()
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-h.gone:
		return true
	case <-t.C:
		return false
	}
}

// A caller makes calls on a handle.
type caller struct {
	e    *Engine
	id   string // of the system
	h    *held
	call func(Call, Handle, string) Result
}

// do makes a call and returns its result. The error is why there is none.
func (c *caller) do(ctx context.Context, call Call, document string, late func(Result)) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	if !c.h.use() {
		return Result{}, hcs.ErrStopped
	}
	return do(ctx, c.e.timeout, func() Result {
		defer c.h.release()
		return c.call(call, c.h.h, document)
	}, late)
}

// properties asks for properties and reads the answer into p.
func (c *caller) properties(ctx context.Context, query, p any) error {
	const op = "properties"
	q, err := json.Marshal(query)
	if err != nil {
		return &hcs.Error{Op: op, System: c.id, Err: err}
	}
	r, err := c.do(ctx, CallProperties, string(q), dropped)
	if err != nil {
		return &hcs.Error{Op: op, System: c.id, Err: err}
	}
	if err := r.failure(op, c.id, ""); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(r.Document), p); err != nil {
		return &hcs.Error{Op: op, System: c.id, Err: fmt.Errorf("reading the answer: %w", err)}
	}
	return nil
}

// dropped is for results that nobody needs.
func dropped(Result) {}
