package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"
)

// A job is a request that a server works on.
type job struct {
	server *Server
	frame  frame
	bytes  *semaphore.Weighted
	size   int64 // that it holds of bytes
	once   sync.Once

	mu    sync.Mutex // guards after
	after []func()
}

type jobKey struct{}

// AfterResponse calls f once the answer to the request that ctx belongs to
// has been written, or could not be: for what the host must see only after
// the answer. Functions run in the order of the calls, in the request's
// goroutine.
func AfterResponse(ctx context.Context, f func()) {
	j := ctx.Value(jobKey{}).(*job)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.after = append(j.after, f)
}

// free gives the budget back that the request's bytes have taken.
func (j *job) free() { j.once.Do(func() { j.bytes.Release(j.size) }) }

// decoded is called when the body of a request is no longer needed. One that
// may wait for days does not hold budget.
func decoded(ctx context.Context) {
	if j, ok := ctx.Value(jobKey{}).(*job); ok && j.frame.Type == WaitForProcess.Type {
		j.frame.Body = nil
		j.free()
	}
}

func (j *job) run(ctx context.Context) {
	s, t, act := j.server, j.frame.Type, activity(j.frame.Body)
	resp, err := j.answer(context.WithValue(ctx, jobKey{}, j))
	if !errors.Is(err, ErrNoResponse) {
		if e := s.respond(t, j.frame.ID, act, resp, err); e != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "answer not sent", "type", t, "err", e)
		}
	}
	j.mu.Lock()
	after := j.after
	j.mu.Unlock()
	for _, f := range after {
		f()
	}
}

func (j *job) answer(ctx context.Context) (resp responder, err error) {
	s, t := j.server, j.frame.Type
	f := s.handlers[t]
	if f == nil {
		return nil, fmt.Errorf("%w: %v", ErrNotImplemented, t)
	}
	if t == WaitForProcess.Type {
		defer s.waits.Add(-1)
		if s.waits.Add(1) > maxWaits {
			return nil, fmt.Errorf("%w: more than %d processes are waited for", ErrFail, maxWaits)
		}
	}
	defer func() {
		if v := recover(); v != nil {
			p := newPanicked(v)
			s.log.ErrorContext(ctx, "handler panicked", "type", t, "err", p, "stack", string(p.stack))
			err = p
		}
	}()
	return f(ctx, j.frame.Body)
}
