//go:build linux

package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

// One VM and one container, which no sub-test may change.
func TestContainer(t *testing.T) {
	ctx := begin(t)
	img := open(ctx, t, testImage(t))
	vm := boot(ctx, t, options(t))
	c := idle(ctx, t, vm, img, container.SpecOptions{Memory: 96 << 20, CPUs: 1})

	step(t, "exec", func(ctx context.Context, t *testing.T) { testExec(ctx, t, c) })
	step(t, "signals", func(ctx context.Context, t *testing.T) { testSignals(ctx, t, c) })
	step(t, "terminal", func(ctx context.Context, t *testing.T) { testTerminal(ctx, t, c) })
	step(t, "stdin", func(ctx context.Context, t *testing.T) { testStdin(ctx, t, c) })
	step(t, "properties", func(ctx context.Context, t *testing.T) { testProperties(ctx, t, c) })
	step(t, "process of the VM", func(ctx context.Context, t *testing.T) { testVMProcess(ctx, t, vm) })
	step(t, "ends of init", func(ctx context.Context, t *testing.T) { testInit(ctx, t, vm, img) })
	step(t, "commands that cannot be run", func(ctx context.Context, t *testing.T) { testNoCommand(ctx, t, vm, img, c) })
	step(t, "shared layers", func(ctx context.Context, t *testing.T) { testShared(ctx, t, vm, img) })
	step(t, "out of memory", func(ctx context.Context, t *testing.T) { testOOM(ctx, t, vm, img) })
	step(t, "twenty containers", func(ctx context.Context, t *testing.T) { testTwenty(ctx, t, vm, img) })
}

func testExec(ctx context.Context, t *testing.T, c *container.Container) {
	for _, x := range []struct {
		script string
		want   outcome
	}{
		{"echo out; echo err >&2", outcome{"out\n", "err\n", 0}},
		{"exit 42", outcome{"", "", 42}},
		{"exit 255", outcome{"", "", 255}},
		{"kill -9 $$", outcome{"", "", 137}},
		{"kill -TERM $$", outcome{"", "", 143}},
		{"printf 'no newline'", outcome{"no newline", "", 0}},
		{"cat", outcome{"", "", 0}}, // no stdin is an empty one
	} {
		if got := do(ctx, t, c, x.script); got != x.want {
			t.Errorf("%q: got %+v, want %+v", x.script, got, x.want)
		}
	}
}

func testSignals(ctx context.Context, t *testing.T, c *container.Container) {
	r, w := io.Pipe()
	cmd := cow.Command(c, "sh", "-c", `trap "echo usr1" USR1; trap "echo term; exit 9" TERM; echo ready; while :; do sleep 3600 >/dev/null 2>&1 & wait $!; done`)
	cmd.Stdout = w
	if err := cmd.Start(ctx); err != nil {
		t.Fatal(err)
	}
	go func() { w.CloseWithError(errors.Join(cmd.Wait(), io.EOF)) }()
	for _, x := range []struct {
		signal int
		want   string
	}{{0, "ready\n"}, {10, "usr1\n"}, {15, "term\n"}} {
		if x.signal != 0 {
			if ok, err := cmd.Process.Signal(ctx, hcsschema.SignalProcessOptionsLCOW{Signal: x.signal}); err != nil || !ok {
				t.Fatalf("signal %d: %v, %v", x.signal, ok, err)
			}
		}
		got := make([]byte, len(x.want))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != x.want {
			t.Fatalf("signal %d: got %q, %v; want %q", x.signal, got, err, x.want)
		}
	}
	var exit *cow.ExitError
	if _, err := io.Copy(io.Discard, r); !errors.As(err, &exit) || exit.Code != 9 {
		t.Errorf("got %v, want exit code 9", err)
	}
}

func testTerminal(ctx context.Context, t *testing.T, c *container.Container) {
	var typed bytes.Buffer
	typed.WriteString("stty size; tty >/dev/null && echo is a tty; echo to stderr >&2; exit 3\n")
	cmd := cow.Command(c, "sh")
	cmd.Spec.Terminal = true
	cmd.Spec.Env = append(cmd.Spec.Env, "TERM=xterm")
	r, w := io.Pipe()
	cmd.Stdin, cmd.Stdout = r, &lockedBuffer{}
	if err := cmd.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.ResizeConsole(ctx, 123, 45); err != nil {
		t.Error(err)
	}
	io.Copy(w, &typed)
	err := cmd.Wait()
	w.Close()
	var exit *cow.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("got %v, want exit code 3", err)
	}
	out := cmd.Stdout.(*lockedBuffer).String()
	for _, want := range []string{"45 123\r\n", "is a tty\r\n", "to stderr\r\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
}

// A lockedBuffer is written to and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testStdin(ctx context.Context, t *testing.T, c *container.Container) {
	big := make([]byte, 8<<20+123)
	rand.Read(big)
	cat := cow.Command(c, "sh", "-c", "cat; echo end >&2") // reads to the end, then goes on
	cat.Stdin = bytes.NewReader(big)
	if got := finish(ctx, t, cat); got.stdout != string(big) || got.stderr != "end\n" || got.code != 0 {
		t.Errorf("%d of %d bytes came back, the same %v; stderr %q, code %d", len(got.stdout), len(big), got.stdout == string(big), got.stderr, got.code)
	}
	deaf := cow.Command(c, "sh", "-c", "exec <&-; exit 5") // does not read what is sent
	deaf.Stdin = bytes.NewReader(big)
	if got := finish(ctx, t, deaf); got.code != 5 {
		t.Errorf("code %d, want 5", got.code)
	}
	r, w := io.Pipe() // never ends
	defer w.Close()
	busy := cow.Command(c, "sh", "-c", "exit 6")
	busy.Stdin = r
	if got := finish(ctx, t, busy); got.code != 6 {
		t.Errorf("code %d, want 6", got.code)
	}
}

func testProperties(ctx context.Context, t *testing.T, c *container.Container) {
	do(ctx, t, c, "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; head -c 1000000 /dev/zero >/tmp/x") // some figures
	p, err := c.PropertiesV2(ctx, hcsschema.PTStatistics, hcsschema.PTProcessList)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.ProcessList) < 2 { // sh and sleep
		t.Errorf("processes %+v", p.ProcessList)
	}
	m := p.LCOWMetrics
	if m == nil || m.Memory == nil || m.Memory.Usage == nil || m.CPU == nil || m.CPU.Usage == nil || m.Pids == nil {
		t.Fatalf("metrics %+v", m)
	}
	if m.Memory.Usage.Limit != 96<<20 {
		t.Errorf("memory limit %d, want %d", m.Memory.Usage.Limit, 96<<20)
	}
	if m.Memory.Usage.Usage == 0 || m.CPU.Usage.Total == 0 || m.Pids.Current < 2 {
		t.Errorf("memory %d, CPU %d ns, %d processes", m.Memory.Usage.Usage, m.CPU.Usage.Total, m.Pids.Current)
	}
}

func testVMProcess(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
	run := func(p *hcsschema.ProcessParameters) (string, int) {
		p.CreateStdOutPipe = true
		proc, err := vm.CreateProcess(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		defer proc.Close()
		_, stdout, _ := proc.Stdio()
		out, err := io.ReadAll(stdout)
		if err == nil {
			err = proc.Wait()
		}
		if err != nil {
			t.Fatal(err)
		}
		code, err := proc.ExitCode()
		if err != nil {
			t.Fatal(err)
		}
		return string(out), code
	}
	// The guest has no shell: its agent's runtime is a program that is there.
	if out, code := run(&hcsschema.ProcessParameters{CommandLine: "runc --version"}); code != 0 || !strings.HasPrefix(out, "runc version") {
		t.Errorf("got %q, code %d", out, code)
	}
	if _, code := run(&hcsschema.ProcessParameters{CommandArgs: []string{"runc", "no-such-verb"}}); code == 0 {
		t.Error("a verb that is not there: code 0")
	}
	if _, err := vm.CreateProcess(ctx, &hcsschema.ProcessParameters{CommandLine: "no-such-program"}); err == nil {
		t.Error("a program that is not there was started")
	}
}

// testInit ends containers in different ways.
func testInit(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, img *container.Image) {
	c := add(ctx, t, vm, img, container.SpecOptions{Args: []string{"sh", "-c", "echo bye; exit 3"}})
	if got := finish(ctx, t, c.Init()); got != (outcome{"bye\n", "", 3}) {
		t.Errorf("got %+v", got)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("waiting for the container: %v", err)
	}
	if _, err := c.Command("true").Output(ctx); err == nil {
		t.Error("a process was started in a container that has ended")
	}
	if err := c.Delete(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx); err != nil {
		t.Errorf("deleting it again: %v", err)
	}

	add(ctx, t, vm, img, container.SpecOptions{}) // whose init is never started

	running := idle(ctx, t, vm, img, container.SpecOptions{})
	if err := running.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := running.Wait(); err != nil {
		t.Errorf("waiting for the container: %v", err)
	}

	killed := add(ctx, t, vm, img, container.SpecOptions{Args: []string{"sleep", "3600"}})
	init := killed.Init()
	if err := init.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := killed.Terminate(ctx); err != nil {
		t.Error(err)
	}
	var exit *cow.ExitError
	if err := init.Wait(); !errors.As(err, &exit) || exit.Code != 137 {
		t.Errorf("got %v, want exit code 137", err)
	}
}

func testNoCommand(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, img *container.Image, running *container.Container) {
	for command, want := range map[string]error{
		"nosuch":      container.ErrCommandNotFound,
		"/nosuch":     container.ErrCommandNotFound,
		"/etc/passwd": container.ErrCommandNotExecutable,
		"/tmp":        container.ErrCommandNotExecutable,
	} {
		if err := running.Command(command).Run(ctx); !errors.Is(err, want) {
			t.Errorf("%s in a running container: got %v, want %v", command, err, want)
		}
		spec, err := container.NewSpec(img, container.SpecOptions{Args: []string{command}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := container.Create(ctx, vm, container.Config{Spec: spec, Layers: img.Layers()})
		if !errors.Is(err, want) {
			t.Errorf("%s as init: got %v, want %v", command, err, want)
		}
		if c != nil {
			c.Delete(ctx)
		}
	}
}

// testShared looks at what two users of a disk get.
func testShared(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, img *container.Image) {
	disk := img.Layers()[0] // the running container has it
	a, err := vm.AddVPMEM(ctx, disk)
	if err != nil {
		t.Fatal(err)
	}
	b, err := vm.AddVPMEM(ctx, disk)
	if err != nil || a != b {
		t.Errorf("got %s and %s, %v; want one device", a, b, err)
	}
	if _, err := vm.AddSCSI(ctx, disk, "/run/mounts/writable", false, uvm.VMAccessTypeNoop); !errors.Is(err, uvm.ErrAlreadyAttached) {
		t.Errorf("writable: got %v, want %v", err, uvm.ErrAlreadyAttached)
	}
	for range 2 {
		if err := vm.RemoveVPMEM(ctx, disk); err != nil {
			t.Error(err)
		}
	}
}

func testOOM(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, img *container.Image) {
	c := add(ctx, t, vm, img, container.SpecOptions{Memory: 24 << 20, Args: []string{"tail", "/dev/zero"}})
	if got := finish(ctx, t, c.Init()); got.code != 137 {
		t.Errorf("got %+v, want code 137", got)
	}
	if out := do(ctx, t, idle(ctx, t, vm, img, container.SpecOptions{}), "echo alive"); out.stdout != "alive\n" {
		t.Errorf("the VM is not well: %+v", out)
	}
}

func testTwenty(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, img *container.Image) {
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				want := fmt.Sprintf("container %d\n", i)
				c := add(ctx, t, vm, img, container.SpecOptions{Args: []string{"sh", "-c", "echo " + strings.TrimSpace(want) + " >/f; cat /f; exit " + fmt.Sprint(i)}})
				if got := finish(ctx, t, c.Init()); got != (outcome{want, "", i}) {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
	wg.Wait()
}

// Five VMs at once, each with a container.
func TestFiveVMs(t *testing.T) {
	ctx := begin(t)
	img := open(ctx, t, testImage(t))
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 5 {
		o := options(t)
		o.MemorySizeInMB = 256
		wg.Go(func() {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				vm := boot(ctx, t, o)
				c := add(ctx, t, vm, img, container.SpecOptions{Args: []string{"sh", "-c", fmt.Sprintf("exit %d", 10+i)}})
				if got := finish(ctx, t, c.Init()); got.code != 10+i {
					t.Errorf("got %+v, want code %d", got, 10+i)
				}
			})
		})
	}
	wg.Wait()
	t.Logf("took %v", time.Since(began).Round(time.Second))
}
