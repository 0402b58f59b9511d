package computecore_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
	"github.com/byrevm/byre/test/wine/standin"
)

func each(t *testing.T, f func(*testing.T, standin.Script)) {
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) { f(t, script) })
	}
}

// A process of the service: its streams, its end, its exit code.
func TestProcess(t *testing.T) {
	each(t, func(t *testing.T, script standin.Script) {
		l := newLab(t, script, &hcstest.Guest{Program: hcstest.Echo(7)})
		s := l.start("vm", internal)
		ctx := t.Context()
		p, err := s.(hcs.Processes).CreateProcess(ctx, hcsschema.ProcessParameters{
			CommandLine: "cat", CreateStdInPipe: true, CreateStdOutPipe: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		if p.Pid() == 0 {
			t.Error("it has no pid")
		}
		if _, err := p.ExitCode(); err == nil {
			t.Error("there is an exit code before the exit")
		}
		stdin, stdout, stderr := p.Stdio()
		if stdin == nil || stdout == nil || stderr != nil {
			t.Fatalf("streams are %v, %v, %v", stdin, stdout, stderr)
		}
		data := strings.Repeat("0123456789abcdef", 16<<10)
		go func() {
			if _, err := io.WriteString(stdin, data); err != nil {
				t.Errorf("write: %v", err)
			}
			for range 2 {
				if err := p.CloseStdin(ctx); err != nil {
					t.Errorf("closing stdin: %v", err)
				}
			}
		}()
		got, err := io.ReadAll(stdout)
		if err != nil || string(got) != data {
			t.Errorf("read %d bytes, %v; want %d", len(got), err, len(data))
		}
		if err := p.Wait(); err != nil {
			t.Errorf("wait: %v", err)
		}
		if code, err := p.ExitCode(); code != 7 || err != nil {
			t.Errorf("exit code %d, %v; want 7", code, err)
		}
		if delivered, err := p.Kill(ctx); delivered || err != nil {
			t.Errorf("killing a process that has exited: %v, %v", delivered, err)
		}
		for range 2 {
			if err := p.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
}

// Signals and the size of the console reach the process.
func TestSignal(t *testing.T) {
	each(t, func(t *testing.T, script standin.Script) {
		l := newLab(t, script, nil)
		s := l.start("vm", internal)
		ctx := t.Context()
		for _, signal := range []any{hcsschema.SignalProcessOptionsLCOW{Signal: 15}, nil} {
			p, err := s.(hcs.Processes).CreateProcess(ctx, hcsschema.ProcessParameters{CommandLine: "sleep", EmulateConsole: true, CreateStdOutPipe: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.ResizeConsole(ctx, 100, 40); err != nil {
				t.Errorf("resize: %v", err)
			}
			if delivered, err := p.Signal(ctx, signal); !delivered || err != nil {
				t.Errorf("signal %v: %v, %v", signal, delivered, err)
			}
			if _, out, _ := p.Stdio(); out != nil {
				io.Copy(io.Discard, out)
			}
			want := 143
			if signal == nil {
				want = 137
			}
			if err := p.Wait(); err != nil {
				t.Errorf("wait: %v", err)
			}
			if code, err := p.ExitCode(); code != want || err != nil {
				t.Errorf("exit code %d, %v; want %d", code, err, want)
			}
			if err := p.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
}

// A process and a container end, for those who wait, with their system, and
// with Close.
func TestEndOfHost(t *testing.T) {
	each(t, func(t *testing.T, script standin.Script) {
		l := newLab(t, script, nil)
		s := l.start("vm", internal)
		ctx := t.Context()
		process := func() (interface {
			Wait() error
			Close() error
		}, error) {
			return s.(hcs.Processes).CreateProcess(ctx, hcsschema.ProcessParameters{CommandLine: "sleep"})
		}
		closed, err := process()
		if err != nil {
			t.Fatal(err)
		}
		if err := closed.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := closed.Wait(); err == nil {
			t.Error("the exit of a closed process is known")
		}
		p, err := process()
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		c, err := s.(hcs.Hosted).CreateHosted(ctx, "ctr", l.hosted("vm"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := s.Terminate(ctx); err != nil {
			t.Errorf("terminate: %v", err)
		}
		if err := p.Wait(); !errors.Is(err, hcs.ErrStopped) {
			t.Errorf("process: got error %v, want %v", err, hcs.ErrStopped)
		}
		if err := c.Wait(); err != nil && !errors.Is(err, hcs.ErrStopped) { // the guest may have said it, too
			t.Errorf("container: got error %v, want %v", err, hcs.ErrStopped)
		}
		if _, err := process(); !errors.Is(err, hcs.ErrStopped) {
			t.Errorf("another process: got error %v, want %v", err, hcs.ErrStopped)
		}
	})
}

// hosted is the document of a container in a system.
func (l *lab) hosted(in string) hcs.Document {
	l.t.Helper()
	doc, err := hcs.NewDocument(&hcsschema.ComputeSystem{
		SchemaVersion: hcsschema.SchemaV21(), HostingSystemId: in, ShouldTerminateOnLastHandleClosed: true,
		HostedSystem: map[string]any{"SchemaVersion": hcsschema.SchemaV21()},
	}, "")
	if err != nil {
		l.t.Fatal(err)
	}
	return doc
}

// A container of the service lives and ends as one of our own does.
func TestContainer(t *testing.T) {
	each(t, func(t *testing.T, script standin.Script) {
		l := newLab(t, script, nil)
		s := l.start("vm", internal)
		ctx := t.Context()
		h := s.(hcs.Hosted)
		c, err := h.CreateHosted(ctx, "ctr", l.hosted("vm"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.CreateHosted(ctx, "ctr", l.hosted("vm")); !errors.Is(err, hcs.ErrAlreadyExists) {
			t.Errorf("the second of an id: got error %v, want %v", err, hcs.ErrAlreadyExists)
		}
		if _, err := h.CreateHosted(ctx, "other", l.hosted("nobody")); !errors.Is(err, hcs.ErrNotFound) {
			t.Errorf("in no system: got error %v, want %v", err, hcs.ErrNotFound)
		}
		if c.ID() != "ctr" || c.OS() != "linux" || c.IsOCI() {
			t.Errorf("id %q, OS %q, OCI %v", c.ID(), c.OS(), c.IsOCI())
		}
		if err := c.Start(ctx); err != nil {
			t.Fatalf("start: %v", err)
		}
		p, err := c.CreateProcess(ctx, hcsschema.ProcessParameters{CommandLine: "sleep"})
		if err != nil {
			t.Fatalf("process: %v", err)
		}
		if p2, err := c.PropertiesV2(ctx, hcsschema.PTProcessList); err != nil || len(p2.ProcessList) == 0 {
			t.Errorf("properties: %+v, %v", p2, err)
		}
		if p1, err := c.Properties(ctx, schema1.PropertyTypeProcessList); err != nil || len(p1.ProcessList) == 0 {
			t.Errorf("properties v1: %+v, %v", p1, err)
		}
		if err := c.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := c.Wait(); err != nil {
			t.Errorf("wait: %v", err)
		}
		if err := c.Terminate(ctx); err != nil {
			t.Errorf("terminate: %v", err)
		}
		if err := c.Start(ctx); !errors.Is(err, hcs.ErrStopped) {
			t.Errorf("start: got error %v, want %v", err, hcs.ErrStopped)
		}
		if err := p.Close(); err != nil {
			t.Errorf("close of the process: %v", err)
		}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
}

// Without a GuestConnection the service makes no processes and containers.
func TestExternal(t *testing.T) {
	l := newLab(t, standin.Script{}, nil)
	s := l.start("vm", "")
	if _, err := s.(hcs.Processes).CreateProcess(t.Context(), hcsschema.ProcessParameters{CommandLine: "true"}); !errors.Is(err, hcs.ErrNotSupported) {
		t.Errorf("process: got error %v, want %v", err, hcs.ErrNotSupported)
	}
	if _, err := s.(hcs.Hosted).CreateHosted(t.Context(), "ctr", l.hosted("vm")); !errors.Is(err, hcs.ErrNotSupported) {
		t.Errorf("container: got error %v, want %v", err, hcs.ErrNotSupported)
	}
}
