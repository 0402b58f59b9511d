package uvm_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
	"github.com/byrevm/byre/uvm"
)

func settings(id string) *hcsschema.LinuxHostedSystem {
	return &hcsschema.LinuxHostedSystem{SchemaVersion: hcsschema.SchemaV21(), OciBundlePath: "/run/gcs/c/" + id, OciSpecification: struct{}{}}
}

func TestContainer(t *testing.T) {
	v := start(t, setup{guest: &hcstest.Guest{Program: hcstest.Echo(7)}})
	ctx := t.Context()
	c, err := v.CreateContainer(ctx, "c1", settings("c1"))
	if err != nil {
		t.Fatal(err)
	}
	if c.ID() != "c1" || !c.IsOCI() || c.OS() != "linux" {
		t.Errorf("container %s, OCI %v, %s", c.ID(), c.IsOCI(), c.OS())
	}
	if _, err := v.CreateContainer(ctx, "c1", settings("c1")); err == nil {
		t.Error("a second container with the same id")
	}
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	out, err := (&cow.Cmd{Host: c, Stdin: strings.NewReader("hello")}).Output(ctx)
	var code *cow.ExitError
	if string(out) != "hello" || !errors.As(err, &code) || code.Code != 7 {
		t.Errorf("got %q, %v", out, err)
	}
	if err := errors.Join(c.Wait(), v.DeleteContainerState(ctx, "c1"), c.Close()); err != nil {
		t.Error(err)
	}
	if err := v.DeleteContainerState(ctx, "c1"); err == nil {
		t.Error("deleted what is not there")
	}
	if l := v.guest.Containers(v.ID()); len(l) != 0 {
		t.Errorf("containers left: %v", l)
	}
	if s, err := v.DumpStacks(ctx); s != "fake stacks" || err != nil {
		t.Errorf("stacks %q, %v", s, err)
	}
}

// TestContainerFailsThenWorks is case 88: the id of a container that could
// not be made can be used again.
func TestContainerFailsThenWorks(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	v.hook.fail("bridge:Create")
	if _, err := v.CreateContainer(ctx, "c1", settings("c1")); err == nil || !strings.Contains(err.Error(), "creating container c1") {
		t.Errorf("got %v", err)
	}
	v.hook.set(nil)
	for _, id := range []string{"", "00000000-0000-0000-0000-000000000000"} {
		if _, err := v.CreateContainer(ctx, id, settings(id)); err == nil {
			t.Errorf("a container with the id %q", id)
		}
	}
	c, err := v.CreateContainer(ctx, "c1", settings("c1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestProcess(t *testing.T) {
	v := start(t, setup{guest: &hcstest.Guest{Program: hcstest.Sleep}})
	ctx := t.Context()
	p, err := v.CreateProcess(ctx, &hcsschema.ProcessParameters{CommandLine: "sleep", CreateStdOutPipe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if ok, err := p.Signal(ctx, hcsschema.SignalProcessOptionsLCOW{Signal: 15}); !ok || err != nil {
		t.Error(ok, err)
	}
	_, stdout, _ := p.Stdio()
	if _, err := io.ReadAll(stdout); err != nil {
		t.Error(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if code, err := p.ExitCode(); code != 143 || err != nil {
		t.Error(code, err)
	}
}

// TestGuestCannot checks what a guest without capabilities is not asked.
func TestGuestCannot(t *testing.T) {
	v := start(t, setup{guest: &hcstest.Guest{Capabilities: new(schema1.GuestDefinedCapabilities)}})
	if s, err := v.DumpStacks(t.Context()); s != "" || err != nil {
		t.Error(s, err)
	}
	if v.SignalProcessSupported() || v.DeleteContainerStateSupported() {
		t.Error("capabilities that the guest does not have")
	}
	err := v.DeleteContainerState(t.Context(), "c")
	if !errors.Is(err, hcs.ErrNotSupported) || err.Error() != "uvm guest connection does not support deleteContainerState" {
		t.Error(err)
	}
}

// TestNotStarted checks what calls say that need a guest when there is none.
func TestNotStarted(t *testing.T) {
	for name, edit := range map[string]func(*uvm.OptionsLCOW){
		"external": nil,
		"none":     func(o *uvm.OptionsLCOW) { o.UseGuestConnection = false },
	} {
		t.Run(name, func(t *testing.T) {
			v := create(t, setup{edit: edit})
			ctx := t.Context()
			if s, err := v.DumpStacks(ctx); s != "" || err != nil {
				t.Error(s, err)
			}
			_, err1 := v.CreateContainer(ctx, "c", settings("c"))
			_, err2 := v.CreateProcess(ctx, new(hcsschema.ProcessParameters))
			_, err3 := v.AddSCSI(ctx, "a", "/mnt", false, noop)
			for i, err := range []error{err1, err2, err3, v.RemoveCombinedLayers(ctx, "/r")} {
				if err == nil {
					t.Errorf("%d: no error", i+1)
				}
			}
		})
	}
}

// TestVMDiesDuringCall ends the VM while the guest is asked for something:
// every call ends, and says that the VM has stopped.
func TestVMDiesDuringCall(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		op   string
		call func(*testVM) error
	}{
		"CreateContainer": {"bridge:Create", func(v *testVM) error {
			_, err := v.CreateContainer(ctx, "c", settings("c"))
			return err
		}},
		"CreateProcess": {"bridge:ExecuteProcess", func(v *testVM) error {
			_, err := v.CreateProcess(ctx, &hcsschema.ProcessParameters{CommandLine: "x"})
			return err
		}},
		"AddSCSI": {guestModify, func(v *testVM) error {
			_, err := v.AddSCSI(ctx, "a", "/mnt", false, noop)
			return err
		}},
		"AddVPMEM": {guestModify, func(v *testVM) error {
			_, err := v.AddVPMEM(ctx, v.disk("a"))
			return err
		}},
		"CombineLayersLCOW": {guestModify, func(v *testVM) error { return v.CombineLayersLCOW(ctx, []string{"/a"}, "", "/r") }},
		"DumpStacks": {"bridge:DumpStacks", func(v *testVM) error {
			_, err := v.DumpStacks(ctx)
			return err
		}},
		"DeleteContainerState": {"bridge:DeleteContainerState", func(v *testVM) error { return v.DeleteContainerState(ctx, "c") }},
	} {
		t.Run(name, func(t *testing.T) {
			v := start(t, setup{})
			v.hook.set(func(ctx context.Context, call hcstest.Call) error {
				if call.Op == c.op {
					v.system().Exit(&hcs.Exit{Kind: hcs.ExitVMMKilled})
					<-ctx.Done()
				}
				return nil
			})
			if err := c.call(v); !errors.Is(err, hcs.ErrStopped) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestCloseDuringCalls closes the VM while everybody is busy.
func TestCloseDuringCalls(t *testing.T) {
	v := start(t, setup{guest: &hcstest.Guest{Program: hcstest.Sleep}})
	c, err := v.CreateContainer(t.Context(), "c", settings("c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg, ready sync.WaitGroup
	ready.Add(3)
	wg.Go(func() {
		p, err := v.CreateProcess(t.Context(), &hcsschema.ProcessParameters{CommandLine: "x", CreateStdOutPipe: true})
		ready.Done()
		if err != nil {
			t.Error(err)
			return
		}
		p.Wait() // ends, whichever comes first
		p.Close()
	})
	wg.Go(func() {
		ready.Done()
		c.Wait()
		c.Close()
	})
	wg.Go(func() {
		ready.Done()
		if err := v.Wait(); err != nil {
			t.Error(err)
		}
	})
	ready.Wait()
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestCombineLayers(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	if err := v.CombineLayersLCOW(ctx, []string{"/a", "/b"}, "/s", "/r"); err != nil {
		t.Error(err)
	}
	v.hook.fail(guestModify)
	if err := v.RemoveCombinedLayers(ctx, "/r"); err == nil {
		t.Error("removed")
	}
	v.hook.set(nil)
	if err := v.RemoveCombinedLayers(ctx, "/r"); err != nil {
		t.Error(err)
	}
	v.expect("guest Add CombinedLayers /r", "guest Remove CombinedLayers /r", "guest Remove CombinedLayers /r")
	if err := v.CombineLayersWCOW(ctx, nil, ""); !errors.Is(err, hcs.ErrNotSupported) {
		t.Error(err)
	}
}

// TestContainerOfEndedVM calls a container whose VM has ended.
func TestContainerOfEndedVM(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	c, err := v.CreateContainer(ctx, "c1", settings("c1"))
	if err != nil {
		t.Fatal(err)
	}
	v.system().Exit(&hcs.Exit{Kind: hcs.ExitAgent})
	_, perr := c.Properties(ctx)
	_, p2err := c.PropertiesV2(ctx)
	_, cerr := c.CreateProcess(ctx, nil)
	for what, err := range map[string]error{
		"Start": c.Start(ctx), "Shutdown": c.Shutdown(ctx), "Terminate": c.Terminate(ctx),
		"Properties": perr, "PropertiesV2": p2err, "CreateProcess": cerr,
	} {
		if !errors.Is(err, hcs.ErrStopped) {
			t.Errorf("%s: got %v, want %v", what, err, hcs.ErrStopped)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
