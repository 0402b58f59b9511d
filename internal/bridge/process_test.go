package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
)

// A vm is a guest in memory and the host's end of its bridge.
type vm struct {
	*bridge.Client
	engine *hcstest.Engine
	sys    *hcstest.System
	conn   net.Conn // of the bridge
	mu     sync.Mutex
	ports  []uint32 // that were listened on
}

func boot(t *testing.T, g *hcstest.Guest, hook func(context.Context, hcstest.Call) error) *vm {
	t.Helper()
	v := &vm{engine: hcstest.New(hcstest.Config{Boot: g.Boot, Hook: hook})}
	doc, err := hcs.NewDocument(&hcsschema.ComputeSystem{VirtualMachine: &hcsschema.VirtualMachine{}}, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := v.engine.Create(t.Context(), "vm", doc)
	if err != nil {
		t.Fatal(err)
	}
	v.sys = s.(*hcstest.System)
	t.Cleanup(func() {
		if v.Client != nil {
			v.Client.Close()
		}
		s.Close()
		if l, c := v.sys.Open(); l != 0 || c != 0 {
			t.Errorf("%d listeners and %d connections left", l, c)
		}
	})
	service := hcs.VsockServiceID(hcs.BridgePort)
	if g.OS == "windows" {
		service = hcs.WindowsBridge
	}
	l, err := s.Listen(service)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v.conn, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	v.Client, err = bridge.Connect(t.Context(), v.conn, bridge.Config{Listen: func(port uint32) (net.Listener, error) {
		v.mu.Lock()
		v.ports = append(v.ports, port)
		v.mu.Unlock()
		return s.Listen(hcs.VsockServiceID(port))
	}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *vm) create(t *testing.T, id string) cow.Container {
	t.Helper()
	c, err := v.CreateContainer(t.Context(), id, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type params = hcsschema.LinuxProcessParameters

func pipes(in, out, err bool) *params {
	return &params{ProcessParameters: hcsschema.ProcessParameters{CreateStdInPipe: in, CreateStdOutPipe: out, CreateStdErrPipe: err}}
}

func exec(t *testing.T, h interface {
	CreateProcess(context.Context, any) (cow.Process, error)
}, p any) cow.Process {
	t.Helper()
	proc, err := h.CreateProcess(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	return proc
}

func exitCode(t *testing.T, p cow.Process, want int) {
	t.Helper()
	if err := p.Wait(); err != nil {
		t.Errorf("wait: %v", err)
	}
	if code, err := p.ExitCode(); code != want || err != nil {
		t.Errorf("exit code %d, %v; want %d", code, err, want)
	}
}

func ops(v *vm, prefix string) []string {
	var l []string
	for _, c := range v.engine.Calls() {
		if s, ok := strings.CutPrefix(c.Op, prefix); ok {
			l = append(l, s)
		}
	}
	return l
}

func TestCase33Create(t *testing.T) {
	v := boot(t, &hcstest.Guest{}, nil)
	c := v.create(t, "c1")
	if c.ID() != "c1" || c.OS() != "linux" || !c.IsOCI() {
		t.Errorf("got %s, %s, %v", c.ID(), c.OS(), c.IsOCI())
	}
	for _, id := range []string{"", bridge.NilContainer} {
		if _, err := v.CreateContainer(t.Context(), id, nil); err == nil {
			t.Errorf("created %q", id)
		}
	}
}

func TestCase34Terminate(t *testing.T) {
	v := boot(t, &hcstest.Guest{}, nil)
	for _, end := range []func(cow.Container) error{
		func(c cow.Container) error { return c.Terminate(t.Context()) },
		func(c cow.Container) error { return c.Shutdown(t.Context()) },
	} {
		c := v.create(t, "c1")
		if err := errors.Join(c.Start(t.Context()), end(c), c.Wait()); err != nil {
			t.Fatal(err)
		}
		n := len(ops(v, "bridge:"))
		if err := errors.Join(c.Terminate(t.Context()), c.Shutdown(t.Context())); err != nil {
			t.Errorf("ending it again: %v", err)
		}
		if got := ops(v, "bridge:"); len(got) != n {
			t.Errorf("the guest was asked to end what had ended: %v", got[n:])
		}
		if err := v.DeleteContainerState(t.Context(), "c1"); err != nil {
			t.Error(err)
		}
	}
}

// A container that the guest no longer knows has been ended.
func TestTerminateUnknown(t *testing.T) {
	v := boot(t, &hcstest.Guest{}, nil)
	c := v.create(t, "c1")
	if err := v.DeleteContainerState(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Terminate(t.Context()); err != nil {
		t.Error(err)
	}
}

// B51a: the reference's Wait returns nil when the transport is lost, as if
// the container had ended in order. Here it says so.
func TestCase35And37TransportClosed(t *testing.T) {
	v := boot(t, &hcstest.Guest{Program: hcstest.Sleep}, nil)
	c := v.create(t, "c1")
	p := exec(t, c, pipes(true, true, true))
	v.conn.Close()
	if err := c.Wait(); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("container: got %v, want %v", err, bridge.ErrClosed)
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "bridge closed") {
		t.Errorf("process: got %v, want bridge closed", err)
	}
	if code, err := p.ExitCode(); code != -1 || !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("exit code %d, %v", code, err)
	}
	if _, err := p.Kill(t.Context()); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("kill: %v", err)
	}
	if err := c.Terminate(t.Context()); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("terminate: %v", err)
	}
	if _, err := c.CreateProcess(t.Context(), pipes(true, true, true)); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("exec: %v", err)
	}
	if _, err := v.CreateContainer(t.Context(), "c2", nil); !errors.Is(err, bridge.ErrClosed) {
		t.Errorf("create: %v", err)
	}
}

func TestCase36Stdio(t *testing.T) {
	for _, os := range []string{"linux", "windows"} {
		v := boot(t, &hcstest.Guest{OS: os, Program: hcstest.Echo(3)}, nil)
		c := v.create(t, "c1")
		hosts := map[string]interface {
			CreateProcess(context.Context, any) (cow.Process, error)
		}{"container": c, "machine": v}
		for name, h := range hosts {
			p := exec(t, h, pipes(true, true, false))
			in, out, errs := p.Stdio()
			if errs != nil {
				t.Errorf("%s %s: a stderr that was not asked for", os, name)
			}
			if _, err := p.ExitCode(); err == nil {
				t.Errorf("%s %s: an exit code before the exit", os, name)
			}
			data := strings.Repeat("0123456789abcdef", 64<<10) // far more than is buffered
			go func() {
				if _, err := io.WriteString(in, data); err != nil {
					t.Errorf("stdin: %v", err)
				}
				for range 2 {
					if err := p.CloseStdin(t.Context()); err != nil {
						t.Errorf("close stdin: %v", err)
					}
				}
			}()
			got, err := io.ReadAll(out)
			if string(got) != data || err != nil {
				t.Errorf("%s %s: read %d bytes, %v; want %d", os, name, len(got), err, len(data))
			}
			exitCode(t, p, 3)
			if n, err := out.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("%s %s: read after the end: %d, %v", os, name, n, err)
			}
			if err := errors.Join(p.CloseStdin(t.Context()), p.Close(), p.Close()); err != nil {
				t.Errorf("%s %s: %v", os, name, err)
			}
		}
	}
}

func TestCase39Streams(t *testing.T) {
	v := boot(t, &hcstest.Guest{Program: func(_ context.Context, p *hcstest.Process) int {
		fmt.Fprint(p.Stdout, "out")
		fmt.Fprint(p.Stderr, "err")
		return 0
	}}, nil)
	p := exec(t, v.create(t, "c1"), pipes(true, true, true))
	_, out, errs := p.Stdio()
	for r, want := range map[io.Reader]string{out: "out", errs: "err"} {
		if got, err := io.ReadAll(r); string(got) != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	exitCode(t, p, 0)
}

// Case 87: the exit is not seen before the output was read, or given up (B49).
func TestCase87UnreadOutput(t *testing.T) {
	for _, give := range []string{"read", "close"} {
		v := boot(t, &hcstest.Guest{Program: func(_ context.Context, p *hcstest.Process) int {
			p.Stdout.Write(make([]byte, 256<<10))
			return 0
		}}, nil)
		p := exec(t, v.create(t, "c1"), pipes(false, true, false))
		done := make(chan struct{})
		go func() {
			p.Wait()
			close(done)
		}()
		// The guest answers this while the output is stuck: only the stream
		// that nobody reads is blocked.
		if _, err := v.DumpStacks(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			t.Error("the exit was seen before the output")
		default:
		}
		_, out, _ := p.Stdio()
		if give == "read" {
			if n, err := io.Copy(io.Discard, out); n != 256<<10 || err != nil {
				t.Errorf("read %d bytes, %v", n, err)
			}
		} else {
			p.Close()
		}
		exitCode(t, p, 0)
	}
}

// Case 88, B41: an id is taken while its container lives, and free when
// Create has failed.
func TestCase88DuplicateID(t *testing.T) {
	v := boot(t, &hcstest.Guest{}, hcstest.FailNth("bridge:Create", 1, bridge.ErrInvalidState))
	if _, err := v.CreateContainer(t.Context(), "c1", nil); !errors.Is(err, bridge.ErrInvalidState) {
		t.Errorf("first create: %v", err)
	}
	c := v.create(t, "c1")
	_, err := v.CreateContainer(t.Context(), "c1", nil)
	if !bridge.IsAlreadyExists(err) || !strings.Contains(err.Error(), "container c1 already exists") {
		t.Errorf("duplicate: %v", err)
	}
	if n := len(ops(v, "bridge:Create")); n != 2 {
		t.Errorf("%d creates reached the guest, want 2", n)
	}
	// B46: Close releases who waits, and the id.
	waited := make(chan error)
	go func() { waited <- c.Wait() }()
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if err := <-waited; !errors.Is(err, bridge.ErrReleased) {
		t.Errorf("wait: got %v, want %v", err, bridge.ErrReleased)
	}
	if err := v.DeleteContainerState(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
	v.create(t, "c1")
}

func TestCase92Ports(t *testing.T) {
	v := boot(t, &hcstest.Guest{}, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			p, err := v.CreateProcess(t.Context(), pipes(true, true, true))
			if err != nil {
				t.Error(err)
				return
			}
			in, out, errs := p.Stdio()
			_, e1 := io.WriteString(in, "x")
			e2 := p.CloseStdin(t.Context())
			b, e3 := io.ReadAll(out)
			_, e4 := io.ReadAll(errs)
			if err := errors.Join(e1, e2, e3, e4, p.Wait(), p.Close()); err != nil || string(b) != "x" {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
	wg.Wait()
	slices.Sort(v.ports)
	if n := len(slices.Compact(slices.Clone(v.ports))); n != 60 || v.ports[0] != 0x40000001 {
		t.Errorf("60 streams had %d ports from %#x", n, v.ports[0])
	}
}

func TestSignals(t *testing.T) {
	v := boot(t, &hcstest.Guest{Program: hcstest.Sleep}, nil)
	c := v.create(t, "c1")
	init := exec(t, c, pipes(false, false, false))
	add := func() cow.Process {
		return exec(t, c, &params{OciProcess: []byte(`{"args":["x"]}`)})
	}
	for _, s := range []struct {
		options any
		want    int
	}{{hcsschema.SignalProcessOptionsLCOW{Signal: 15}, 143}, {hcsschema.SignalProcessOptionsLCOW{}, 137}, {nil, 137}} {
		p := add()
		if ok, err := p.Signal(t.Context(), s.options); !ok || err != nil {
			t.Errorf("signal: %v, %v", ok, err)
		}
		exitCode(t, p, s.want)
		n := len(ops(v, "bridge:"))
		if ok, err := p.Kill(t.Context()); ok || err != nil {
			t.Errorf("kill after the exit: %v, %v", ok, err)
		}
		if len(ops(v, "bridge:")) != n {
			t.Error("the guest was asked to kill what had exited")
		}
	}
	p := add()
	if err := p.ResizeConsole(t.Context(), 80, 25); err != nil {
		t.Error(err)
	}
	if props, err := c.PropertiesV2(t.Context(), hcsschema.PTProcessList); err != nil || len(props.ProcessList) != 2 {
		t.Errorf("properties: %+v, %v", props, err)
	}
	if props, err := c.Properties(t.Context()); err != nil || len(props.ProcessList) != 0 {
		t.Errorf("properties: %+v, %v", props, err)
	}
	if err := c.Terminate(t.Context()); err != nil {
		t.Error(err)
	}
	exitCode(t, init, 137)
	exitCode(t, p, 137) // the end of init ends all
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// The exit notification comes after the exit code (spec §3.9).
func TestExitOrder(t *testing.T) {
	v := boot(t, &hcstest.Guest{Program: hcstest.Echo(5)}, nil)
	for range 50 {
		c := v.create(t, "c1")
		p := exec(t, c, pipes(false, false, false))
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		if code, err := p.ExitCode(); code != 5 || err != nil {
			t.Fatalf("the container has ended, its init has not: %d, %v", code, err)
		}
		if err := v.DeleteContainerState(t.Context(), "c1"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExecFails(t *testing.T) {
	v := boot(t, &hcstest.Guest{}, nil)
	c := v.create(t, "c1")
	if _, err := v.CreateProcess(t.Context(), func() {}); err == nil {
		t.Error("a function was encoded")
	}
	if _, err := v.CreateProcess(t.Context(), []int{1}); err == nil {
		t.Error("a list was taken for parameters")
	}
	if err := v.DeleteContainerState(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateProcess(t.Context(), pipes(true, true, true)); !bridge.IsNotFound(err) {
		t.Errorf("exec in no container: %v", err)
	}
	if l, n := v.sys.Open(); l != 0 || n != 1 { // the bridge
		t.Errorf("%d listeners, %d connections left", l, n)
	}
}

// What was made after the caller had given up is ended.
func TestTooLate(t *testing.T) {
	var mu sync.Mutex
	release := map[string]chan struct{}{"bridge:Create": make(chan struct{}), "bridge:ExecuteProcess": make(chan struct{})}
	reached := make(chan struct{})
	hook := func(ctx context.Context, c hcstest.Call) error {
		mu.Lock()
		ch := release[c.Op]
		delete(release, c.Op)
		mu.Unlock()
		if ch != nil {
			reached <- struct{}{}
			<-ch
		}
		return nil
	}
	create, exec := release["bridge:Create"], release["bridge:ExecuteProcess"]
	g := &hcstest.Guest{Program: hcstest.Sleep}
	v := boot(t, g, hook)

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	if _, err := v.CreateContainer(ctx, "c1", nil); err != context.Canceled {
		t.Fatalf("create: %v", err)
	}
	close(create)
	await(t, v, func() bool { return len(g.Containers("vm")) == 0 })
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		<-reached
		cancel()
	}()
	if _, err := v.CreateProcess(ctx, pipes(false, false, false)); err != context.Canceled {
		t.Fatalf("exec: %v", err)
	}
	close(exec)
	await(t, v, func() bool {
		return g.Processes("vm") == 0 && slices.Contains(ops(v, ""), "bridge:WaitForProcess")
	})
}

// await returns when something has come about in the guest. It asks the guest
// something in between.
func await(t *testing.T, v *vm, cond func() bool) {
	t.Helper()
	for !cond() {
		if _, err := v.DumpStacks(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
