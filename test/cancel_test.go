//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/uvm"
)

// moments are the parts of a step after which tests interfere.
const moments = 8

// during runs do with a context that is canceled at each of several moments
// of the time that a whole run takes. It checks that do either succeeds or
// says that it was canceled.
func during(ctx context.Context, t *testing.T, whole time.Duration, do func(context.Context) error) {
	t.Helper()
	canceled := 0
	for i := range moments {
		ctx, cancel := context.WithCancel(ctx)
		timer := time.AfterFunc(whole*time.Duration(i)/moments, cancel)
		err := do(ctx)
		timer.Stop()
		cancel()
		switch {
		case errors.Is(err, context.Canceled):
			canceled++
			t.Logf("moment %d of %d: %v", i, moments, err)
		case err != nil:
			t.Errorf("moment %d of %d: got %v", i, moments, err)
		}
	}
	t.Logf("canceled %d of %d, one whole run takes %v", canceled, moments, whole.Round(time.Millisecond))
	if canceled == 0 {
		t.Error("it was never canceled")
	}
}

// TestCancelCreate cancels the making of a VM.
func TestCancelCreate(t *testing.T) {
	ctx := begin(t)
	one := func(ctx context.Context) error {
		vm, err := uvm.CreateLCOW(ctx, options(t))
		if err == nil {
			err = vm.Close()
		}
		return err
	}
	began := time.Now()
	if err := one(ctx); err != nil {
		t.Fatal(err)
	}
	during(ctx, t, time.Since(began), one)
}

// TestInterruptedStart cancels starts, and kills QEMU, after each of their
// stages.
func TestInterruptedStart(t *testing.T) {
	begin(t)
	for i, stage := range []string{uvm.StageVMM, uvm.StageKernel, uvm.StageInit, uvm.StageAgent} {
		step(t, "canceled after "+stage, func(ctx context.Context, t *testing.T) {
			t.Parallel()
			vm := create(ctx, t, options(t))
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() {
				if passed(ctx, vm, stage) {
					cancel()
				}
			}()
			switch err := vm.Start(ctx); {
			case err == nil && i == 3: // the last stage is short
			case !errors.Is(err, context.Canceled):
				t.Errorf("got %v", err)
			}
		})
	}
	for i, stage := range []string{uvm.StageCreate, uvm.StageVMM, uvm.StageKernel, uvm.StageAgent} {
		step(t, "QEMU killed after "+stage, func(ctx context.Context, t *testing.T) {
			t.Parallel()
			vm := create(ctx, t, options(t))
			pid := vmm(t, vm.ID())
			killed := make(chan error, 1)
			kill := func() {
				passed(ctx, vm, stage)
				killed <- syscall.Kill(pid, syscall.SIGKILL)
			}
			if i == 0 {
				kill()
			} else {
				go kill()
			}
			err := vm.Start(ctx)
			if e := <-killed; e != nil {
				t.Fatal(e)
			}
			var exit *hcs.Exit
			if (err != nil || i < 3) && (!errors.As(err, &exit) || exit.Kind != hcs.ExitVMMKilled) && !(i == 0 && errors.Is(err, hcs.ErrStopped)) {
				t.Errorf("got %v, want %v", err, hcs.ExitVMMKilled)
			}
			t.Log(err)
			if err := vm.Wait(); err != nil {
				t.Error(err)
			}
			if err := vm.ExitError(); !errors.As(err, &exit) || exit.Kind != hcs.ExitVMMKilled {
				t.Errorf("ExitError: got %v, want %v", err, hcs.ExitVMMKilled)
			}
		})
	}
}

// TestCancelContainer cancels the making of containers and commands of one
// VM, which must be as before afterwards.
func TestCancelContainer(t *testing.T) {
	ctx := begin(t)
	vm := boot(ctx, t, guestOptions(t, ""))
	img := open(ctx, t, testImage(t))
	c := idle(ctx, t, vm, img, container.SpecOptions{})
	spec, err := container.NewSpec(img, container.SpecOptions{Args: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	one := func(ctx context.Context) error {
		n++
		k, err := container.Create(ctx, vm, container.Config{ID: fmt.Sprint("c", n), Spec: spec, Layers: img.Layers()})
		if err != nil {
			return err
		}
		return errors.Join(k.Init().Run(ctx), k.Delete(context.WithoutCancel(ctx)))
	}
	began := time.Now()
	if err := one(ctx); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(began)
	before := guestState(ctx, t, vm)
	step(t, "container", func(ctx context.Context, t *testing.T) { during(ctx, t, whole, one) })

	command := func(ctx context.Context) error { return c.Command("true").Run(ctx) }
	began = time.Now()
	if err := command(ctx); err != nil {
		t.Fatal(err)
	}
	whole = time.Since(began)
	step(t, "command", func(ctx context.Context, t *testing.T) { during(ctx, t, whole, command) })
	step(t, "sleeping command", func(ctx context.Context, t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		time.AfterFunc(whole, cancel)
		if err := c.Command("sleep", "3600").Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})

	if err := one(ctx); err != nil {
		t.Errorf("a container afterwards: %v", err)
	}
	left(ctx, t, vm, before)
}

// guestState returns what there is in a VM, by what it is.
func guestState(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) map[string]bool {
	t.Helper()
	out, err := cow.Command(vm, guestProgram, "state").Output(ctx)
	if err != nil {
		t.Fatal(err)
	}
	state := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		state[strings.TrimSpace(line)] = true
	}
	if len(state) < 10 {
		t.Fatalf("the state of the VM is not understood: %q", out)
	}
	return state
}

// left fails the test if there is more in a VM than before. What ends by
// itself has some time.
func left(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, before map[string]bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		var more []string
		for k := range guestState(ctx, t, vm) {
			if !before[k] {
				more = append(more, k)
			}
		}
		if len(more) == 0 {
			return
		}
		if time.Now().After(deadline) {
			slices.Sort(more)
			t.Errorf("left in the VM:\n\t%s", strings.Join(more, "\n\t"))
			return
		}
	}
}
