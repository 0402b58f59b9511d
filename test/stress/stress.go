// Package stress adds and removes resources of a VM from many goroutines at
// once, the same and different ones, with calls that are called off, and holds
// the counts against its own.
package stress

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/uvm"
)

var (
	duration = flag.Duration("stress.for", 0, "how long a stress test works, 0 for a few seconds")
	seed     = flag.Uint64("stress.seed", 0, "seed of a stress test, 0 for a new one")
)

// patience is how long a call may take that nothing holds up.
const patience = 3 * time.Minute

// A Load is what the goroutines share.
type Load struct {
	Workers    int
	For        time.Duration // unless the flag says otherwise
	Disks      []string
	Layers     []string
	Folders    []string
	Pipes      []string
	Namespaces []string // which the VM has
	Endpoints  []*hns.HNSEndpoint

	// Failure reports whether an error is one that the test has made.
	Failure func(error) bool
}

// A Run is a load at work.
type Run struct {
	Load
	t     testing.TB
	vm    *uvm.UtilityVM
	rand  *rand.Rand
	seed  uint64
	dead  atomic.Bool // the VM is to end, or has
	calls atomic.Int64

	mu    sync.Mutex
	users map[string]int // of each thing, by our count
}

// New returns a run. It prints the seed, which the flag repeats.
func New(t testing.TB, vm *uvm.UtilityVM, l Load) *Run {
	r := &Run{Load: l, t: t, vm: vm, seed: *seed, users: make(map[string]int)}
	if r.seed == 0 {
		r.seed = rand.Uint64()
	}
	if *duration != 0 {
		r.For = *duration
	}
	t.Logf("%d goroutines for %v, -stress.seed=%d", r.Workers, r.For, r.seed)
	r.rand = rand.New(rand.NewPCG(r.seed, 0))
	return r
}

// Work runs the goroutines for three quarters of the time. When it returns they
// have given back all that they had.
func (r *Run) Work(ctx context.Context) {
	r.t.Helper()
	began, before := time.Now(), r.calls.Load()
	stop := time.Now().Add(r.For * 3 / 4)
	r.all(ctx, 0, func() bool { return time.Now().Before(stop) })
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, n := range r.users {
		if n != 0 {
			r.t.Errorf("%s has %d users by our count", k, n)
		}
	}
	r.t.Logf("%d calls in %v", r.calls.Load()-before, time.Since(began).Round(time.Millisecond))
}

// Kill runs the goroutines and ends the VM at a random moment of the last
// quarter of the time. It returns when all of them have seen that.
func (r *Run) Kill(ctx context.Context, kill func()) {
	r.t.Helper()
	moment := time.Duration(r.rand.Int64N(int64(r.For/4) + 1))
	r.t.Logf("the VM ends after %v", moment.Round(time.Millisecond))
	timer := time.AfterFunc(moment, func() {
		r.dead.Store(true)
		kill()
	})
	defer timer.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.vm.Wait(); err != nil {
			r.t.Errorf("waiting for the end: %v", err)
		}
	}()
	r.all(ctx, 1, func() bool {
		select {
		case <-done:
			return false
		default:
			return true
		}
	})
	<-done
}

// all runs the goroutines while goOn says so, and reports those that hang.
func (r *Run) all(ctx context.Context, phase uint64, goOn func() bool) {
	var wg sync.WaitGroup
	for i := range r.Workers {
		w := &worker{Run: r, rand: rand.New(rand.NewPCG(r.seed, phase<<32|uint64(i)+1))}
		wg.Go(func() {
			for goOn() {
				w.step(ctx)
			}
			for len(w.held) > 0 {
				w.release(ctx)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	limit := time.NewTimer(r.For + patience)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
		panic(fmt.Sprintf("the calls of seed %d hang", r.seed)) // with all stacks
	}
}

// A worker is one goroutine.
type worker struct {
	*Run
	rand *rand.Rand
	held []use
}

// A use is something that this worker has added.
type use struct {
	name   string
	remove func(context.Context) error
}

func (w *worker) step(ctx context.Context) {
	if len(w.held) > 4 || len(w.held) > 0 && w.rand.IntN(2) == 0 {
		w.release(ctx)
		return
	}
	ctx, cancel := w.context(ctx)
	defer cancel()
	switch kinds := [](func(context.Context)){w.disk, w.layer, w.folder, w.pipe, w.nic}; {
	default:
		kinds[w.rand.IntN(len(kinds))](ctx)
	}
}

// context returns one that ends soon, at times.
func (w *worker) context(ctx context.Context) (context.Context, context.CancelFunc) {
	if w.rand.IntN(8) > 0 {
		return context.WithTimeout(ctx, patience)
	}
	return context.WithTimeout(ctx, time.Duration(w.rand.Int64N(int64(20*time.Millisecond))))
}

// added accounts for an Add.
func (w *worker) added(ctx context.Context, name string, err error, remove func(context.Context) error) bool {
	w.calls.Add(1)
	if err != nil {
		w.check(ctx, "adding "+name, err)
		return false
	}
	w.count(name, 1)
	w.held = append(w.held, use{name, remove})
	return true
}

func (w *worker) count(name string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.users[name] += n
	if w.users[name] < 0 {
		w.t.Errorf("%s was removed too often", name)
	}
}

// check reports an error that has no reason.
func (w *worker) check(ctx context.Context, what string, err error) (ok bool) {
	switch {
	case w.dead.Load():
	case ctx.Err() != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
	case w.Failure != nil && w.Failure(err):
	default:
		w.t.Errorf("seed %d: %s: %v", w.seed, what, err)
		return false
	}
	return true
}

// release gives one use back. What fails is tried again, as callers may.
func (w *worker) release(ctx context.Context) {
	i := w.rand.IntN(len(w.held))
	u := w.held[i]
	w.held[i] = w.held[len(w.held)-1]
	w.held = w.held[:len(w.held)-1]
	for end := time.Now().Add(patience); ; {
		ctx, cancel := w.context(ctx)
		err := u.remove(ctx)
		again := err != nil && w.check(ctx, "removing "+u.name, err)
		cancel()
		w.calls.Add(1)
		if !again || w.dead.Load() {
			break
		}
		if time.Now().After(end) {
			w.t.Errorf("seed %d: %s cannot be removed: %v", w.seed, u.name, err)
			break
		}
	}
	w.count(u.name, -1)
}

// pick returns one of a list, and its number.
func pick[T any](w *worker, list []T) (v T, i int, ok bool) {
	if len(list) == 0 {
		return v, 0, false
	}
	i = w.rand.IntN(len(list))
	return list[i], i, true
}

func (w *worker) disk(ctx context.Context) {
	path, i, ok := pick(w, w.Disks)
	if !ok {
		return
	}
	at := ""
	if w.rand.IntN(3) > 0 {
		at = fmt.Sprintf("/run/mounts/d%d", i)
	}
	m, err := w.vm.AddSCSI(ctx, path, at, true, uvm.VMAccessTypeIndividual)
	if !w.added(ctx, path, err, func(ctx context.Context) error { return m.Release(ctx) }) {
		return
	}
	if at != "" && m.UVMPath != at {
		w.t.Errorf("%s is at %q, want %q", path, m.UVMPath, at)
	}
	got, err := w.vm.GetScsiUvmPath(ctx, path)
	if err != nil {
		w.check(ctx, "looking up "+path, err)
	} else if at != "" && got != at {
		w.t.Errorf("%s is looked up at %q, want %q", path, got, at)
	}
}

func (w *worker) layer(ctx context.Context) {
	path, _, ok := pick(w, w.Layers)
	if !ok {
		return
	}
	_, err := w.vm.AddVPMEM(ctx, path)
	w.added(ctx, path, err, func(ctx context.Context) error { return w.vm.RemoveVPMEM(ctx, path) })
}

func (w *worker) folder(ctx context.Context) {
	path, i, ok := pick(w, w.Folders)
	if !ok {
		return
	}
	s, err := w.vm.AddPlan9(ctx, path, fmt.Sprintf("/run/mounts/s%d", i), i%2 == 0, false, nil)
	w.added(ctx, path, err, func(ctx context.Context) error { return s.Release(ctx) })
}

func (w *worker) pipe(ctx context.Context) {
	path, _, ok := pick(w, w.Pipes)
	if !ok {
		return
	}
	p, err := w.vm.AddPipe(ctx, path)
	w.added(ctx, path, err, func(ctx context.Context) error { return p.Release(ctx) })
}

// nic adds or removes an adapter. They are not counted: whoever comes last
// wins.
func (w *worker) nic(ctx context.Context) {
	e, i, ok := pick(w, w.Endpoints)
	if !ok {
		return
	}
	ns := w.Namespaces[i%len(w.Namespaces)]
	what, do := "adding", w.vm.AddEndpointsToNS
	if w.rand.IntN(2) == 0 {
		what, do = "removing", w.vm.RemoveEndpointsFromNS
	}
	w.calls.Add(1)
	if err := do(ctx, ns, []*hns.HNSEndpoint{e}); err != nil {
		w.check(ctx, what+" endpoint "+e.Id, err)
	}
}

// Again adds and removes everything once: what could not be undone is undone
// by the next use. Then nothing is attached.
func (r *Run) Again(ctx context.Context) {
	r.t.Helper()
	r.Failure = nil
	w := &worker{Run: r, rand: rand.New(rand.NewPCG(r.seed, 1<<40))}
	remove := func(path string, err error, remove func() error) {
		if err == nil {
			err = remove()
		}
		if err != nil {
			r.t.Errorf("%s, once more: %v", path, err)
		}
	}
	for i, p := range r.Disks {
		m, err := r.vm.AddSCSI(ctx, p, fmt.Sprintf("/run/mounts/d%d", i), true, uvm.VMAccessTypeIndividual)
		remove(p, err, func() error { return m.Release(ctx) })
		if err := r.vm.RemoveSCSI(ctx, p); err != uvm.ErrNotAttached { //nolint:errorlint // callers compare it so
			r.t.Errorf("%s: got %v, want %v", p, err, uvm.ErrNotAttached)
		}
	}
	for _, p := range r.Layers {
		_, err := r.vm.AddVPMEM(ctx, p)
		remove(p, err, func() error { return r.vm.RemoveVPMEM(ctx, p) })
		if err := r.vm.RemoveVPMEM(ctx, p); err != uvm.ErrNotAttached { //nolint:errorlint // callers compare it so
			r.t.Errorf("%s: got %v, want %v", p, err, uvm.ErrNotAttached)
		}
	}
	for i, p := range r.Folders {
		s, err := r.vm.AddPlan9(ctx, p, fmt.Sprintf("/run/mounts/s%d", i), i%2 == 0, false, nil)
		remove(p, err, func() error { return s.Release(ctx) })
	}
	for _, p := range r.Pipes {
		m, err := r.vm.AddPipe(ctx, p)
		remove(p, err, func() error { return m.Release(ctx) })
		if err := r.vm.RemovePipe(ctx, p); err != uvm.ErrNotAttached { //nolint:errorlint // callers compare it so
			r.t.Errorf("%s: got %v, want %v", p, err, uvm.ErrNotAttached)
		}
	}
	for i, e := range r.Endpoints {
		one := []*hns.HNSEndpoint{e}
		ns := w.Namespaces[i%len(w.Namespaces)]
		if err := errors.Join(r.vm.AddEndpointsToNS(ctx, ns, one), r.vm.RemoveEndpointsFromNS(ctx, ns, one)); err != nil {
			r.t.Errorf("endpoint %s, once more: %v", e.Id, err)
		}
	}
}
