package uvm

import (
	"context"
	"errors"
	"sync"

	"github.com/byrevm/byre/hcs"
)

// A call is one whose caller may leave before its work is done.
type call struct {
	mu   sync.Mutex
	left bool // the caller has
	stay bool // the caller must not any more
}

// heard reports whether somebody is there to hear that the work succeeded, who
// stays for it then.
func (c *call) heard() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stay = c.stay || !c.left
	return c.stay
}

// leave reports whether the caller may leave, who has then.
func (c *call) leave() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = c.left || !c.stay
	return c.left
}

// carry runs work and returns its error, or that of ctx if it ends first. Then
// work goes on beside its caller until the guest has answered and what was
// begun is undone: it has the turn at its key, so that whoever wants the same
// next waits for it. If work succeeds when nobody is there to hear of it,
// unheard, unless nil, takes that back.
func (vm *UtilityVM) carry(ctx context.Context, work func(*call) error, unheard func(context.Context) error) error {
	c := new(call)
	result := make(chan error, 1)
	begun := vm.background(func() {
		err := work(c)
		if err != nil || c.heard() || unheard == nil {
			result <- err
			return
		}
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		if err := unheard(back); err != nil && !errors.Is(err, hcs.ErrStopped) {
			vm.log.WarnContext(ctx, "what was called off not undone", "err", err)
		}
	})
	if !begun { // everything is quick in a VM that has ended
		return work(c)
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		if c.leave() {
			return ctx.Err()
		}
		return <-result
	}
}

// background runs f beside its caller; Close waits for it. It reports false,
// and does not run f, if the VM has ended.
func (vm *UtilityVM) background(f func()) bool {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.state == ended {
		return false
	}
	vm.wg.Go(f)
	return true
}

// at calls f while nothing else is mounted at a place of the guest, or taken
// from it: what was called off there has settled then.
func (vm *UtilityVM) at(ctx context.Context, place string, f func() error) error {
	if place == "" {
		return f()
	}
	return vm.places.turn(ctx, place, f)
}

// alive is an error of the class [hcs.ErrStopped] once the VM has ended: what
// is attached to it cannot be shared any more.
func (vm *UtilityVM) alive() error {
	select {
	case <-vm.sys.Done():
		return &hcs.Error{Op: "share", System: vm.id, Err: hcs.ErrStopped}
	default:
		return nil
	}
}

// A backlog is what goes on though its caller has left. The zero value is
// empty.
type backlog struct {
	mu sync.Mutex
	m  map[<-chan struct{}]bool // closed at the end
}

// add notes something that ends when done is closed.
func (b *backlog) add(done <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = make(map[<-chan struct{}]bool)
	}
	b.m[done] = true
}

// wait returns when all that was noted so far has ended, or ctx has.
func (b *backlog) wait(ctx context.Context) error {
	for {
		b.mu.Lock()
		var next <-chan struct{}
		for next = range b.m {
			break
		}
		b.mu.Unlock()
		if next == nil {
			return nil
		}
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
		b.mu.Lock()
		delete(b.m, next)
		b.mu.Unlock()
	}
}
