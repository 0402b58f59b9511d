//go:build linux

package test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/byrevm/byre/uvm"
)

const (
	clockLimit  = 100 * time.Millisecond // how far off the guest's clock may be
	clockRepair = 10 * time.Second       // how long it may be further off after the machine stood still
)

// TestClock compares the guest's clock with ours: after the boot, after the
// machine stood still, and after a program of the guest has set it.
func TestClock(t *testing.T) {
	ctx := begin(t)
	vm := boot(ctx, t, guestOptions(t, ""))
	clock := run(ctx, t, vm, "clock")
	waitClock(ctx, t, clock, "after the boot")

	step(t, "pause", func(ctx context.Context, t *testing.T) {
		pid := vmm(t, vm.ID())
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		select { // what is measured is the effect of this time
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
		}
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		waitClock(ctx, t, clock, "after a pause of 5 s")
	})
	step(t, "set", func(ctx context.Context, t *testing.T) {
		setClock(ctx, t, vm)
		waitClock(ctx, t, clock, "after it was set an hour ahead")
	})
}

func setClock(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
	t.Helper()
	p := run(ctx, t, vm, "setclock")
	err := <-p.ended
	p.ended <- err
	if err != nil {
		t.Fatal(err)
	}
}

// waitClock asks the guest for the time until it is right, and three times
// more.
func waitClock(ctx context.Context, t *testing.T, clock *guestProcess, when string) {
	t.Helper()
	began := time.Now()
	var first, off time.Duration
	for good := 0; good < 4; {
		var err error
		var error time.Duration
		if off, error, err = clock.offset(); err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = off
		}
		took := time.Since(began)
		switch {
		case off.Abs()+error <= clockLimit:
			good++
		case off.Abs()-error > clockLimit && good > 0:
			t.Errorf("%s: the clock is off by %v again, ±%v", when, off, error)
			return
		case took > clockRepair && off.Abs()-error > clockLimit:
			t.Errorf("%s: the clock is off by %v ±%v after %v", when, off, error, took)
			return
		}
		select {
		case <-time.After(50 * time.Millisecond): // between two questions
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		}
	}
	t.Logf("%s: off by %v at first and %v after %v", when, first, off, time.Since(began).Round(time.Millisecond))
}

// offset returns how far the guest's clock is ahead, and by how much that may
// be wrong: half of the time that the answer took.
func (p *guestProcess) offset() (off, wrong time.Duration, err error) {
	asked := time.Now()
	if _, err := fmt.Fprintln(p.stdin); err != nil {
		return 0, 0, err
	}
	var ns int64
	if _, err := fmt.Fscan(p.out, &ns); err != nil {
		return 0, 0, err
	}
	wrong = time.Since(asked) / 2
	return time.Unix(0, ns).Sub(asked.Add(wrong).Round(0)), wrong, nil
}
