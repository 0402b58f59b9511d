package uvm

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

var errBoom = errors.New("boom")

func TestRefsStress(t *testing.T) {
	var r refs[int, int]
	var made, dropped, have atomic.Int32
	build := func() (int, error) {
		if made.Add(1)%7 == 0 {
			return 0, errBoom
		}
		if have.Add(1) > 2 {
			t.Error("a value was made that was there")
		}
		return 1, nil
	}
	drop := func(int) error {
		if dropped.Add(1)%5 == 0 {
			return errBoom
		}
		have.Add(-1)
		return nil
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for range 100 {
				if _, err := r.acquire(t.Context(), i%2, build, nil); err != nil {
					if err != errBoom {
						t.Error(err)
					}
					continue
				}
				for r.release(t.Context(), i%2, drop) != nil {
				}
			}
		})
	}
	wg.Wait()
	if n := have.Load(); n != 0 || len(r.m) != 0 {
		t.Errorf("%d values and %d keys left", n, len(r.m))
	}
}

func TestRefsCount(t *testing.T) {
	var r refs[string, string]
	ctx := t.Context()
	build := func() (string, error) { return "v", nil }
	if _, err := r.get(ctx, "k"); err != ErrNotAttached {
		t.Error(err)
	}
	if err := r.release(ctx, "k", nil); err != ErrNotAttached {
		t.Error(err)
	}
	if _, err := r.acquire(ctx, "k", func() (string, error) { return "", errBoom }, nil); err != errBoom || len(r.m) != 0 {
		t.Error(err, len(r.m))
	}
	for range 3 {
		if v, err := r.acquire(ctx, "k", build, nil); v != "v" || err != nil {
			t.Error(v, err)
		}
	}
	if _, err := r.acquire(ctx, "k", build, func(v string) (string, error) { return v + "2", errBoom }); err != errBoom {
		t.Error(err)
	}
	if v, err := r.get(ctx, "k"); v != "v2" || err != nil {
		t.Error("what share returns is not kept:", v, err)
	}
	never := func(string) error { t.Error("dropped too early"); return nil }
	for range 2 {
		if err := r.release(ctx, "k", never); err != nil {
			t.Error(err)
		}
	}
	for range 3 { // a failed drop can be tried again, and the key is still there
		if err := r.release(ctx, "k", func(string) error { return errBoom }); err != errBoom {
			t.Error(err)
		}
	}
	if err := r.release(ctx, "k", func(string) error { return nil }); err != nil || len(r.m) != 0 {
		t.Error(err, len(r.m))
	}
}

// TestRefsWaiters checks that whoever waits while a value is made gets that
// value, or that failure, and not before.
func TestRefsWaiters(t *testing.T) {
	for name, failure := range map[string]error{"made": nil, "failed": errBoom, "gave up": context.Canceled} {
		t.Run(name, func(t *testing.T) {
			var r refs[string, int]
			var tries atomic.Int32
			begun, finish := make(chan struct{}), make(chan struct{})
			build := func() (int, error) {
				if tries.Add(1) > 1 {
					return 2, nil
				}
				close(begun)
				<-finish
				return 1, failure
			}
			type result struct {
				v   int
				err error
			}
			const waiters = 10
			results := make(chan result, waiters+1)
			acquire := func() {
				v, err := r.acquire(t.Context(), "k", build, nil)
				results <- result{v, err}
			}
			go acquire()
			<-begun
			for range waiters {
				go acquire()
			}
			waitUsers(t, &r, "k", waiters+1)
			select {
			case x := <-results:
				t.Fatalf("%v before the value was made", x)
			default:
			}
			close(finish)
			want := map[result]int{{1, nil}: waiters + 1}
			switch failure {
			case errBoom:
				want = map[result]int{{0, errBoom}: waiters + 1}
			case context.Canceled:
				want = map[result]int{{1, context.Canceled}: 1, {2, nil}: waiters}
			}
			got := make(map[result]int)
			for range waiters + 1 {
				x := <-results
				if x.err == errBoom {
					x.v = 0
				}
				got[x]++
			}
			for k, n := range want {
				if got[k] != n {
					t.Errorf("got %v, want %v", got, want)
				}
			}
		})
	}
}

func TestRefsWaiterGivesUp(t *testing.T) {
	var r refs[string, int]
	begun, finish := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		_, err := r.acquire(t.Context(), "k", func() (int, error) {
			close(begun)
			<-finish
			return 1, nil
		}, nil)
		done <- err
	}()
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.acquire(ctx, "k", nil, nil); err != context.Canceled {
		t.Error(err)
	}
	if v, err := r.acquire(t.Context(), "other", func() (int, error) { return 3, nil }, nil); v != 3 || err != nil {
		t.Error("another key waits:", v, err)
	}
	close(finish)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := r.release(t.Context(), "k", func(int) error { return nil }); err != nil {
		t.Error("the one that gave up is counted:", err)
	}
	if err := r.release(t.Context(), "other", func(int) error { return nil }); err != nil || len(r.m) != 0 {
		t.Error(err, len(r.m))
	}
}

// waitUsers waits until n goroutines have or want the turn at k.
func waitUsers[K comparable, V any](t *testing.T, r *refs[K, V], k K, n int) {
	t.Helper()
	for t.Context().Err() == nil {
		r.mu.Lock()
		users := r.m[k].users
		r.mu.Unlock()
		if users == n {
			return
		}
	}
}
