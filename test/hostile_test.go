//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/uvm"
)

// passed returns when a VM that starts has passed a stage, or when ctx ends.
func passed(ctx context.Context, vm *uvm.UtilityVM, stage string) bool {
	tick := time.NewTicker(time.Millisecond) // a timeline has no event
	defer tick.Stop()
	for {
		if slices.ContainsFunc(vm.Timeline(), func(s hcs.Stage) bool { return s.Name == stage }) {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// startFails starts a VM that cannot start; if stage is not empty, the start
// is canceled when that stage has passed.
func startFails(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, stage string) *uvm.StartError {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if stage != "" && passed(ctx, vm, stage) {
			cancel()
		}
	}()
	err := vm.Start(ctx)
	cancel()
	<-done
	var e *uvm.StartError
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
	return e
}

// TestHostileAgent starts VMs whose agent is none.
func TestHostileAgent(t *testing.T) {
	begin(t)
	for _, c := range []struct {
		what, stage, cancel, message string
		kind                         hcs.ExitKind
	}{
		{"die", uvm.StageAgent, "", "Attempted to kill init", hcs.ExitAgent},
		{"mute", uvm.StageAgent, uvm.StageInit, "", hcs.ExitTerminated},
		{"hangup", uvm.StageBridge, "", "bridge closed", hcs.ExitTerminated},
		{"garbage", uvm.StageBridge, "", "bridge closed: ", hcs.ExitTerminated},
		{"oversize", uvm.StageBridge, "", "4294967295", hcs.ExitTerminated},
		{"endless", uvm.StageBridge, uvm.StageAgent, "", hcs.ExitTerminated},
	} {
		step(t, c.what, func(ctx context.Context, t *testing.T) {
			t.Parallel()
			o := guestOptions(t, guestProgram+" "+c.what)
			o.MemorySizeInMB = 256
			vm := create(ctx, t, o)
			e := startFails(ctx, t, vm, c.cancel)
			if e.Stage != c.stage || !strings.Contains(e.Error(), c.message) {
				t.Errorf("stage %s, want %s with %q", e.Stage, c.stage, c.message)
			}
			if errors.Is(e, context.Canceled) != (c.cancel != "") {
				t.Errorf("canceled, or not: %v", e.Err)
			}
			if e.Exit == nil || e.Exit.Kind != c.kind {
				t.Errorf("exit %v, want %v", e.Exit, c.kind)
			}
		})
	}
}

// TestHostileGuest has a program of the VM take all the connections that it
// can get and flood the log, while a container goes on.
func TestHostileGuest(t *testing.T) {
	ctx := begin(t)
	o := guestOptions(t, "")
	vm := boot(ctx, t, o)
	img := open(ctx, t, testImage(t))
	c := idle(ctx, t, vm, img, container.SpecOptions{})
	before := resident(t)

	flood := run(ctx, t, vm, "stream")
	greedy := run(ctx, t, vm, "connect")
	for i := range 5 {
		want := outcome{fmt.Sprintf("%d\n", i), "", i}
		if got := do(ctx, t, c, fmt.Sprintf("echo %d; exit %d", i, i)); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	var accepted, kept int
	if _, err := fmt.Fscan(greedy.out, &accepted, &kept); err != nil {
		t.Errorf("the greedy program: %v", err)
	}
	select {
	case err := <-flood.ended:
		t.Errorf("the flood ended: %v", err)
		flood.ended <- err
	default:
	}
	grown := resident(t) - before
	t.Logf("%d connections, %d of them at once; this process has grown by %d MiB", accepted, kept, grown>>20)
	if kept > 64 {
		t.Errorf("the host keeps %d connections", kept)
	}
	if grown > 128<<20 {
		t.Errorf("this process has grown by %d MiB", grown>>20)
	}
	if got := do(ctx, t, c, "echo well"); got.stdout != "well\n" {
		t.Errorf("afterwards: got %+v", got)
	}
}

// TestAgentDies kills the agent of a VM with a container.
func TestAgentDies(t *testing.T) {
	ctx := begin(t)
	vm := boot(ctx, t, guestOptions(t, ""))
	img := open(ctx, t, testImage(t))
	c := idle(ctx, t, vm, img, container.SpecOptions{})
	waits := make(chan error, 1)
	sleeper := c.Command("sleep", "3600")
	if err := sleeper.Start(ctx); err != nil {
		t.Fatal(err)
	}
	go func() { waits <- sleeper.Wait() }()

	killer := cow.Command(vm, guestProgram, "kill") // whose own end nobody will tell of
	if err := killer.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := killer.Wait(); err == nil {
		t.Error("the program that killed the agent ended well")
	}
	if err := <-waits; err == nil {
		t.Error("a process of the container ended well")
	}
	if err := vm.Wait(); err != nil {
		t.Error(err)
	}
	var exit *hcs.Exit
	if err := vm.ExitError(); !errors.As(err, &exit) || exit.Kind != hcs.ExitAgent {
		t.Errorf("got %v, want %v", err, hcs.ExitAgent)
	}
	if _, err := c.Command("true").Output(ctx); !errors.Is(err, hcs.ErrStopped) {
		t.Errorf("a command in a VM that has ended: got %v, want %v", err, hcs.ErrStopped)
	}
}

// resident returns how much memory this process has of its own, in bytes.
func resident(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "RssAnon:")
	var kib int
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatalf("the resident memory is not understood: %v", err)
	}
	return kib << 10
}
