package uvm

import (
	"context"
	"errors"
	"sync"
)

// refs shares values by key. The first acquire of a key makes its value, later
// ones share it, and the last release drops it. Whoever comes while a value
// is made or dropped waits, for that key only. If making or dropping fails
// the count stays as it was, so that it can be tried again.
//
// The zero value is ready to use.
type refs[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]*ref[V]
}

type ref[V any] struct {
	turn  chan struct{} // holds one token; whoever has it may touch n and v
	users int           // who have or wait for the turn; guarded by refs.mu
	n     int           // acquires not yet released
	v     V

	failures int   // of make, so far; guarded by refs.mu
	err      error // the last of them; guarded by refs.mu
}

// acquire counts one use of k. The first makes the value. For a later one
// share, if not nil, may refuse, and may change the value; what it returns is
// kept also when it refuses. Those who waited while a value could not be made
// fail with the same error, without trying again, unless it was only the
// maker's context that ended.
func (r *refs[K, V]) acquire(ctx context.Context, k K, build func() (V, error), share func(V) (V, error)) (v V, err error) {
	e, failed, err := r.lock(ctx, k)
	if err != nil {
		return v, err
	}
	defer r.unlock(k, e)
	switch {
	case failed != nil:
		return v, failed
	case e.n == 0:
		if v, err = build(); err != nil {
			r.fail(e, err)
			return v, err
		}
		e.v = v
	case share != nil:
		if e.v, err = share(e.v); err != nil {
			return v, err
		}
	}
	e.n++
	return e.v, nil
}

// release takes one use of k back, if there is one: else it is
// [ErrNotAttached]. The last drops the value.
func (r *refs[K, V]) release(ctx context.Context, k K, drop func(V) error) error {
	return r.giveBack(ctx, k, drop, func(V) error { return nil }, nil)
}

// releaseFor is release for a caller who may have left when it is done. Then
// the use stays, so that it can be released again; if it was the last its value
// is the zero value, with which nothing is there.
func (r *refs[K, V]) releaseFor(ctx context.Context, c *call, k K, drop func(V) error) error {
	return r.giveBack(ctx, k, drop, func(V) error { return nil }, c)
}

// giveBack is release, and calls other for a use that is not the last. The
// count stays as it was if that fails.
func (r *refs[K, V]) giveBack(ctx context.Context, k K, last, other func(V) error, c *call) error {
	e, _, err := r.lock(ctx, k)
	if err != nil {
		return err
	}
	defer r.unlock(k, e)
	if e.n == 0 {
		return ErrNotAttached
	}
	if e.n == 1 {
		err = last(e.v)
	} else {
		err = other(e.v)
	}
	switch {
	case err != nil:
	case c == nil || c.heard():
		e.n--
	case e.n == 1:
		e.v = *new(V)
	}
	return err
}

// turn calls f while nobody else has the turn at k, used or not.
func (r *refs[K, V]) turn(ctx context.Context, k K, f func() error) error {
	e, _, err := r.lock(ctx, k)
	if err != nil {
		return err
	}
	defer r.unlock(k, e)
	return f()
}

// put stores a value that has one use from the beginning. It must be called
// before the refs are shared.
func (r *refs[K, V]) put(k K, v V) {
	r.m = map[K]*ref[V]{k: {turn: make(chan struct{}, 1), n: 1, v: v}}
}

// use calls f with the value of k, if somebody has it: else it is
// [ErrNotAttached]. Nobody else uses k meanwhile.
func (r *refs[K, V]) use(ctx context.Context, k K, f func(V) error) error {
	e, _, err := r.lock(ctx, k)
	if err != nil {
		return err
	}
	defer r.unlock(k, e)
	if e.n == 0 {
		return ErrNotAttached
	}
	return f(e.v)
}

// get returns the value of k, if somebody has it: else it is
// [ErrNotAttached].
func (r *refs[K, V]) get(ctx context.Context, k K) (v V, err error) {
	err = r.use(ctx, k, func(have V) error {
		v = have
		return nil
	})
	return v, err
}

// lock waits for the turn at k. failed is how making the value failed in the
// meantime.
func (r *refs[K, V]) lock(ctx context.Context, k K) (_ *ref[V], failed, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	e := r.m[k]
	if e == nil {
		e = &ref[V]{turn: make(chan struct{}, 1)}
		if r.m == nil {
			r.m = make(map[K]*ref[V])
		}
		r.m[k] = e
	}
	e.users++
	before := e.failures
	r.mu.Unlock()
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		r.mu.Lock()
		defer r.mu.Unlock()
		r.leave(k, e)
		return nil, nil, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.n == 0 && e.failures != before {
		failed = e.err
	}
	return e, failed, nil
}

func (r *refs[K, V]) fail(e *ref[V], err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.failures++
	e.err = err
}

func (r *refs[K, V]) unlock(k K, e *ref[V]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.n == 0 {
		e.v = *new(V)
	}
	<-e.turn
	r.leave(k, e)
}

// leave forgets k if nobody uses it. r.mu is held.
//
// A user that gives up cannot read n, which the holder of the turn guards;
// but then there is a holder, who is a user too.
func (r *refs[K, V]) leave(k K, e *ref[V]) {
	if e.users--; e.users == 0 && e.n == 0 {
		delete(r.m, k)
	}
}
