package uvm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/uvm"
)

// brief is how long a start may take that waits for a guest in vain.
const brief = 100 * time.Millisecond

// dial connects a guest to a port of the host; it fails only when the machine
// has stopped.
func dial(m *hcstest.Machine, port uint32) io.ReadWriteCloser {
	c, err := m.Dial(hcs.VsockServiceID(port))
	if err != nil {
		<-m.Context().Done()
		return nopCloser{new(bytes.Buffer)}
	}
	return c
}

type nopCloser struct{ io.ReadWriter }

func (nopCloser) Close() error { return nil }

// stages has the stages in which a guest can be.
var stages = []string{uvm.StageKernel, uvm.StageInit, uvm.StageAgent, uvm.StageBridge}

// stagedVM makes a VM whose guest does end in a stage, when the host knows
// that it is there.
func stagedVM(t *testing.T, stage string, end func(*hcstest.Machine)) *testVM {
	t.Helper()
	log := make(chan struct{})
	boot := func(m *hcstest.Machine) {
		if stage == uvm.StageKernel {
			end(m)
			return
		}
		c := dial(m, hcs.EntropyPort)
		defer c.Close()
		io.Copy(io.Discard, c)
		if stage == uvm.StageInit {
			end(m)
			return
		}
		l := dial(m, hcs.LogPort)
		defer l.Close()
		select {
		case <-log:
		case <-m.Context().Done():
		}
		if stage == uvm.StageAgent {
			end(m)
			return
		}
		b := dial(m, hcs.BridgePort)
		defer b.Close()
		io.ReadFull(b, make([]byte, 16))
		end(m) // with the connection open
	}
	return create(t, setup{config: hcstest.Config{Boot: boot}, edit: func(o *uvm.OptionsLCOW) {
		o.OutputHandler = func(r io.Reader) {
			close(log)
			io.Copy(io.Discard, r)
		}
	}})
}

// startError starts v, which fails, and checks what does not depend on how.
func startError(t *testing.T, v *testVM, ctx context.Context) *uvm.StartError {
	t.Helper()
	err := v.Start(ctx)
	var e *uvm.StartError
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
	if e.ID != v.ID() || !strings.Contains(err.Error(), v.ID()) {
		t.Errorf("the error does not name the VM: %v", err)
	}
	return e
}

// TestCase89StartDies lets the VM die in each stage.
func TestCase89StartDies(t *testing.T) {
	exit := &hcs.Exit{Kind: hcs.ExitPanic, Log: []string{"one", "Kernel panic - not syncing: test"}}
	for _, stage := range stages {
		t.Run(stage, func(t *testing.T) {
			v := stagedVM(t, stage, func(m *hcstest.Machine) { m.Exit(exit) })
			e := startError(t, v, t.Context())
			var got *hcs.Exit
			if e.Stage != stage || !errors.As(e, &got) || got != exit || e.Exit != exit {
				t.Errorf("stage %s, exit %v", e.Stage, got)
			}
			if !strings.Contains(e.Error(), exit.Log[1]) {
				t.Error("the error does not show the console")
			}
			if err := v.Wait(); err != nil {
				t.Error(err)
			}
			if err := v.ExitError(); !errors.As(err, &got) || got != exit {
				t.Error(err)
			}
		})
	}
}

// TestStartDiesLater lets the bridge break a moment before the VM ends.
func TestStartDiesLater(t *testing.T) {
	exit := &hcs.Exit{Kind: hcs.ExitAgent, Log: []string{
		"first", "the cause", "Kernel panic - not syncing: test", "CPU: 0", "RIP: 0", "RAX: 0", "RBX: 0", "RCX: 0", "RDX: 0", "R08: 0", "R09: 0",
	}}
	v := stagedVM(t, uvm.StageBridge, func(m *hcstest.Machine) {
		m.Go(func() {
			select {
			case <-time.After(brief):
				m.Exit(exit)
			case <-m.Context().Done():
			}
		})
	})
	e := startError(t, v, t.Context())
	var got *hcs.Exit
	if e.Stage != uvm.StageBridge || !errors.As(e, &got) || got != exit || e.Exit != exit {
		t.Errorf("stage %s, exit %v", e.Stage, e.Exit)
	}
	if s := e.Error(); !strings.Contains(s, "the cause") || !strings.Contains(s, exit.Log[2]) || strings.Contains(s, "R09") {
		t.Errorf("the message does not end with the panic: %v", s)
	}
}

// TestStartCanceled ends the context in each stage, when the guest does
// nothing more.
func TestStartCanceled(t *testing.T) {
	for _, stage := range stages {
		t.Run(stage, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			v := stagedVM(t, stage, func(m *hcstest.Machine) {
				cancel()
				<-m.Context().Done()
			})
			e := startError(t, v, ctx)
			if e.Stage != stage || !errors.Is(e, context.Canceled) {
				t.Errorf("stage %s, error %v", e.Stage, e)
			}
			if e.Exit == nil || e.Exit.Kind != hcs.ExitTerminated {
				t.Errorf("exit %v", e.Exit)
			}
			if err := v.ExitError(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStartDeadlinePasses waits in vain for a guest.
func TestStartDeadlinePasses(t *testing.T) {
	v := stagedVM(t, uvm.StageKernel, func(m *hcstest.Machine) { <-m.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), brief)
	defer cancel()
	if e := startError(t, v, ctx); !errors.Is(e, context.DeadlineExceeded) {
		t.Errorf("got %v", e)
	}
}

// TestStartFaults lets the agent misbehave in every way that package hcstest
// knows.
func TestStartFaults(t *testing.T) {
	for f := hcstest.FaultNeverConnect; f <= hcstest.FaultOOM; f++ {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			v := create(t, setup{guest: &hcstest.Guest{Fault: f}})
			waits := slices.Contains([]hcstest.Fault{hcstest.FaultNeverConnect, hcstest.FaultMute, hcstest.FaultEndless, hcstest.FaultFlood}, f)
			ctx := t.Context()
			if waits {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, brief)
				defer cancel()
			}
			e := startError(t, v, ctx)
			if errors.Is(e, context.DeadlineExceeded) != waits {
				t.Errorf("got %v", e)
			}
			kinds := map[hcstest.Fault]hcs.ExitKind{hcstest.FaultDie: hcs.ExitAgent, hcstest.FaultPanic: hcs.ExitPanic, hcstest.FaultOOM: hcs.ExitOOM}
			want, ok := kinds[f]
			if !ok {
				want = hcs.ExitTerminated
			}
			if e.Exit == nil || e.Exit.Kind != want {
				t.Errorf("exit %v, want %v", e.Exit, want)
			}
			var exit *hcs.Exit
			if errors.As(e, &exit) != ok {
				t.Errorf("error %v wraps exit %v", e, exit)
			}
			if e.Stage == uvm.StageBridge && len(e.Messages) == 0 {
				t.Error("the last messages are not in the error")
			}
		})
	}
}

// TestStartEngineFails lets the engine fail to start, and to clean up.
func TestStartEngineFails(t *testing.T) {
	v := create(t, setup{})
	v.hook.set(hcstest.FailNth(hcstest.OpStart, 1, errBoom))
	e := startError(t, v, t.Context())
	if e.Stage != uvm.StageVMM || !errors.Is(e, errBoom) || e.Exit != nil {
		t.Errorf("stage %s, exit %v, error %v", e.Stage, e.Exit, e)
	}
	if l, c := v.system().Open(); l != 0 || c != 0 {
		t.Errorf("%d listeners and %d connections left", l, c)
	}
	if err := v.Start(t.Context()); !errors.Is(err, hcs.ErrInvalidState) {
		t.Errorf("second Start: %v", err)
	}

}

// TestStartCleanUpFails checks that a VM that could not be stopped is told of.
func TestStartCleanUpFails(t *testing.T) {
	v := create(t, setup{guest: &hcstest.Guest{Fault: hcstest.FaultGarbage}})
	errTerminate := errors.New("terminate failed")
	v.hook.set(hcstest.FailNth(hcstest.OpTerminate, 1, errTerminate))
	if e := startError(t, v, t.Context()); !errors.Is(e, errTerminate) {
		t.Errorf("the failure to clean up is not told: %v", e)
	}
}

// TestStartDeadline checks how long a start may take.
func TestStartDeadline(t *testing.T) {
	for name, own := range map[string]time.Duration{"default": 0, "longer": time.Hour} {
		t.Run(name, func(t *testing.T) {
			v := create(t, setup{})
			ctx, want := t.Context(), 2*time.Minute
			if own != 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, own)
				defer cancel()
				want = own
			}
			v.hook.set(func(ctx context.Context, c hcstest.Call) error {
				if c.Op == hcstest.OpStart {
					d, ok := ctx.Deadline()
					if left := time.Until(d); !ok || left > want || left < want-10*time.Second {
						t.Errorf("the start may take %v", left)
					}
				}
				return nil
			})
			if err := v.Start(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStartClosed closes the VM while it starts.
func TestStartClosed(t *testing.T) {
	for _, stage := range stages {
		t.Run(stage, func(t *testing.T) {
			reached := make(chan struct{})
			v := stagedVM(t, stage, func(m *hcstest.Machine) {
				close(reached)
				<-m.Context().Done()
			})
			var wg sync.WaitGroup
			wg.Go(func() {
				<-reached
				if err := v.Close(); err != nil {
					t.Error(err)
				}
			})
			e := startError(t, v, t.Context())
			wg.Wait()
			if e.Stage != stage {
				t.Errorf("stage %s", e.Stage)
			}
		})
	}
}

// TestStartVariants starts VMs that lack one of the connections.
func TestStartVariants(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*uvm.OptionsLCOW)
		want string
	}{
		"no log":   {func(o *uvm.OptionsLCOW) { o.ForwardStderr = false }, "create vmm kernel agent bridge"},
		"internal": {func(o *uvm.OptionsLCOW) { o.ExternalGuestConnection = false }, "create vmm kernel init bridge"},
		"no guest": {func(o *uvm.OptionsLCOW) { o.UseGuestConnection = false }, "create vmm kernel init"},
		"root on VPMEM": {func(o *uvm.OptionsLCOW) {
			o.RootFSFile, o.PreferredRootFSType = uvm.VhdFile, uvm.PreferredRootFSTypeVHD
		}, "create vmm kernel init agent bridge"},
		"host's request": {nil, "create vmm kernel init agent bridge"},
	} {
		t.Run(name, func(t *testing.T) {
			v := start(t, setup{edit: c.edit, guest: &hcstest.Guest{HostMessages: name == "host's request"}})
			var got []string
			for _, s := range v.Timeline() {
				got = append(got, s.Name)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("stages %s", got)
			}
			n, _ := v.Capabilities()
			if want := uint32(4); name != "no guest" && n != want {
				t.Errorf("protocol %d", n)
			}
		})
	}
}

// TestOutputHandler checks that the handler gets all output, that Wait and
// Close wait for it, and that one that does not read blocks nobody.
func TestOutputHandler(t *testing.T) {
	g := &hcstest.Guest{Log: []string{"hello", "world"}}
	finish := make(chan struct{})
	var got []byte
	v := start(t, setup{guest: g, edit: func(o *uvm.OptionsLCOW) {
		o.OutputHandler = func(r io.Reader) {
			got, _ = io.ReadAll(r)
			<-finish
		}
	}})
	waited := make(chan error)
	go func() { waited <- v.Wait() }()
	v.system().Exit(&hcs.Exit{Kind: hcs.ExitGuest})
	select {
	case <-waited:
		t.Error("Wait returned before the output was handled")
	case <-time.After(brief):
	}
	close(finish)
	if err := <-waited; err != nil || !strings.HasPrefix(string(got), "hello\nworld\n") {
		t.Errorf("got %q, %v", got, err)
	}

	lines := slices.Repeat([]string{strings.Repeat("x", 1000)}, 1000)
	v = start(t, setup{guest: &hcstest.Guest{Log: lines}, edit: func(o *uvm.OptionsLCOW) {
		o.OutputHandler = func(io.Reader) {}
	}})
	if err := errors.Join(v.Terminate(t.Context()), v.Wait()); err != nil {
		t.Error(err)
	}
}

// TestStartErrorText checks that the console of a guest cannot talk to the
// terminal of who reads the error.
func TestStartErrorText(t *testing.T) {
	e := &uvm.StartError{ID: "vm", Stage: uvm.StageAgent, Err: errBoom, Exit: &hcs.Exit{
		Kind: hcs.ExitOOM,
		Log:  []string{"\x1b[2Jcleared\r\n", "bad \xff\tbyte", "grüße"},
	}}
	want := "starting utility VM vm: waiting for the guest's agent: boom: guest ran out of memory\n\t?[2Jcleared\n\tbad ? byte\n\tgrüße"
	if got := e.Error(); strings.ReplaceAll(got, "\uFFFD", "?") != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
