//go:build unix

package cow

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hcsschema"
)

// localHost runs processes on this machine.
type localHost struct {
	os  string
	oci bool
	got any // the parameters of the last process
	// hold keeps the output streams open after the exit.
	hold bool
}

func (h *localHost) OS() string  { return h.os }
func (h *localHost) IsOCI() bool { return h.oci }

func (h *localHost) CreateProcess(_ context.Context, config any) (Process, error) {
	h.got = config
	b, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	var p hcsschema.LinuxProcessParameters
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, err
	}
	args := p.CommandArgs
	if p.OciProcess != nil {
		var s specs.Process
		if err := json.Unmarshal(p.OciProcess, &s); err != nil {
			return nil, err
		}
		args = s.Args
	}
	l := &localProcess{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	pipe := func(want, in bool) (ours, theirs *os.File) {
		if !want {
			return nil, nil
		}
		r, w, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		if in {
			return w, r
		}
		return r, w
	}
	var in, out, errf *os.File
	l.in, in = pipe(p.CreateStdInPipe, true)
	l.out, out = pipe(p.CreateStdOutPipe, false)
	l.err, errf = pipe(p.CreateStdErrPipe, false)
	if in != nil {
		l.cmd.Stdin = in
	}
	if out != nil {
		l.cmd.Stdout = out
	}
	if errf != nil {
		l.cmd.Stderr = errf
	}
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	if h.hold {
		l.held = []*os.File{out, errf}
	} else {
		out.Close()
		errf.Close()
	}
	in.Close()
	go func() {
		l.cmd.Wait()
		close(l.done)
	}()
	return l, nil
}

type localProcess struct {
	cmd          *exec.Cmd
	in, out, err *os.File
	held         []*os.File
	done         chan struct{}
}

func (p *localProcess) Close() error {
	for _, f := range append(p.held, p.in, p.out, p.err) {
		f.Close()
	}
	return nil
}
func (p *localProcess) CloseStdin(context.Context) error { return p.in.Close() }
func (p *localProcess) Pid() int                         { return p.cmd.Process.Pid }
func (p *localProcess) Stdio() (w io.Writer, out, err io.Reader) {
	if p.in != nil {
		w = p.in
	}
	if p.out != nil {
		out = p.out
	}
	if p.err != nil {
		err = p.err
	}
	return w, out, err
}
func (p *localProcess) ResizeConsole(context.Context, uint16, uint16) error { return nil }
func (p *localProcess) Kill(context.Context) (bool, error) {
	return true, p.cmd.Process.Signal(syscall.SIGKILL)
}
func (p *localProcess) Signal(ctx context.Context, _ any) (bool, error) { return p.Kill(ctx) }
func (p *localProcess) Wait() error                                     { <-p.done; return nil }
func (p *localProcess) ExitCode() (int, error) {
	s := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if s.Signaled() {
		return 128 + int(s.Signal()), nil
	}
	return s.ExitStatus(), nil
}

func linux() *localHost { return &localHost{os: "linux"} }

func TestCase19ExitCode(t *testing.T) {
	err := Command(linux(), "sh", "-c", "exit 64").Run(t.Context())
	var e *ExitError
	if !errors.As(err, &e) || e.Code != 64 || e.ExitCode() != 64 {
		t.Fatalf("got %v, want code 64", err)
	}
}

func TestCase20Output(t *testing.T) {
	for _, oci := range []bool{false, true} {
		h := linux()
		h.oci = oci
		out, err := Command(h, "echo", "hello").Output(t.Context())
		if string(out) != "hello\n" || err != nil {
			t.Errorf("oci %v: got %q, %v", oci, out, err)
		}
	}
}

func TestCase21ContextKills(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := Command(linux(), "sleep", "1000")
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	err := c.Wait()
	var e *ExitError
	if !errors.As(err, &e) || e.Code != 137 || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want code 137 because of the context", err)
	}
}

func TestCase22Stdin(t *testing.T) {
	c := Command(linux(), "cat")
	c.Stdin = strings.NewReader("some bytes")
	out, err := c.Output(t.Context())
	if string(out) != "some bytes" || err != nil {
		t.Fatalf("got %q, %v", out, err)
	}
}

func TestCase23BlockedStdin(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	c := Command(linux(), "true")
	c.Stdin = r
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestCase24StreamsNeverClose(t *testing.T) {
	h := linux()
	h.hold = true
	c := Command(h, "true")
	c.Stdout = io.Discard
	c.CopyAfterExitTimeout = 200 * time.Millisecond
	if err := c.Run(t.Context()); err != io.ErrClosedPipe {
		t.Fatalf("got %v, want %v", err, io.ErrClosedPipe)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }
func (failing) Read([]byte) (int, error)  { return 0, errors.New("disk broken") }

func TestFailedCopies(t *testing.T) {
	c := Command(linux(), "sh", "-c", "trap '' PIPE; echo a; echo b; exit 0")
	c.Stdout = failing{}
	if err := c.Run(t.Context()); err == nil || err.Error() != "disk full" {
		t.Errorf("stdout: got %v, want disk full", err)
	}
	c = Command(linux(), "cat")
	c.Stdin = failing{}
	if err := c.Run(t.Context()); err == nil || err.Error() != "disk broken" {
		t.Errorf("stdin: got %v, want disk broken", err)
	}
}

func TestStartFails(t *testing.T) {
	if err := Command(linux(), "/no/such/program").Run(t.Context()); err == nil {
		t.Error("a missing program started")
	}
	if err := (&Cmd{Host: linux()}).Run(t.Context()); err == nil {
		t.Error("a command without spec started")
	}
	if err := (&Cmd{Host: linux()}).Wait(); err == nil {
		t.Error("waited for a command that was not started")
	}
}

func TestParameters(t *testing.T) {
	spec := func() *specs.Process {
		return &specs.Process{
			Args: []string{"a", "b c", `d"e\`}, Cwd: "/x", Env: []string{"K=v", "EMPTY=", "NONE"},
			Terminal: true, ConsoleSize: &specs.Box{Height: 25, Width: 80},
		}
	}
	for name, tt := range map[string]struct {
		cmd  *Cmd
		want string
	}{
		"linux": {
			&Cmd{Host: linux(), Spec: spec(), Stdout: io.Discard, Stderr: io.Discard},
			`{"CommandArgs":["a","b c","d\"e\\"],"WorkingDirectory":"/x","Environment":{"K":"v"},"EmulateConsole":true,"CreateStdOutPipe":true,"ConsoleSize":[25,80]}`,
		},
		"windows": {
			&Cmd{Host: &localHost{os: "windows"}, Spec: spec(), Stdin: failing{}},
			`{"CommandLine":"a \"b c\" \"d\\\"e\\\\\"","WorkingDirectory":"/x","Environment":{"K":"v"},"EmulateConsole":true,"CreateStdInPipe":true,"ConsoleSize":[25,80]}`,
		},
		"command line": {
			&Cmd{Host: &localHost{os: "windows"}, Spec: &specs.Process{Args: []string{"x"}, CommandLine: "cmd /c dir"}},
			`{"CommandLine":"cmd /c dir"}`,
		},
		"init": {
			&Cmd{Host: &localHost{os: "linux", oci: true}, Stdout: io.Discard, Stderr: io.Discard},
			`{"CreateStdOutPipe":true,"CreateStdErrPipe":true}`,
		},
		"oci": {
			&Cmd{Host: &localHost{os: "linux", oci: true}, Spec: &specs.Process{Args: []string{"x"}, Cwd: "/"}, Stdout: io.Discard},
			`{"CreateStdOutPipe":true,"OciProcess":{"user":{"uid":0,"gid":0},"args":["x"],"cwd":"/"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := tt.cmd.parameters()
			if err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(p)
			if string(b) != tt.want || err != nil {
				t.Errorf("got  %s, %v\nwant %s", b, err, tt.want)
			}
		})
	}
}

// A process that cannot be killed does not hold its caller.
type stuckHost struct{ localHost }

type stuckProcess struct {
	*localProcess
	done chan struct{}
}

func (h *stuckHost) CreateProcess(context.Context, any) (Process, error) {
	return &stuckProcess{&localProcess{}, make(chan struct{})}, nil
}
func (p *stuckProcess) Pid() int    { return 1 }
func (p *stuckProcess) Wait() error { <-p.done; return errors.New("bridge closed") }
func (p *stuckProcess) Kill(context.Context) (bool, error) {
	close(p.done)
	return false, errors.New("bridge closed")
}

func TestLostProcess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := &stuckHost{localHost{os: "linux"}}
	if err := Command(h, "x").Run(ctx); err == nil || err.Error() != "bridge closed" {
		t.Errorf("got %v, want bridge closed", err)
	}
}

// A stubbornHost cannot close the stdin of its processes.
type stubbornHost struct{ localHost }

func (h *stubbornHost) CreateProcess(ctx context.Context, config any) (Process, error) {
	p, err := h.localHost.CreateProcess(ctx, config)
	return stubborn{p}, err
}

type stubborn struct{ Process }

func (stubborn) CloseStdin(context.Context) error { return errStubborn }

var errStubborn = errors.New("not closed")

// A process whose stdin cannot be closed would wait for more for ever.
func TestCloseStdinFails(t *testing.T) {
	c := Command(&stubbornHost{localHost{os: "linux", oci: true}}, "cat")
	c.Stdin = strings.NewReader("x")
	if err := c.Run(t.Context()); !errors.Is(err, errStubborn) {
		t.Errorf("got error %v, want %v", err, errStubborn)
	}
	c = Command(&stubbornHost{localHost{os: "linux", oci: true}}, "true")
	c.Stdin = strings.NewReader("")
	if err := c.Run(t.Context()); err != nil && !errors.Is(err, errStubborn) { // whichever is first
		t.Errorf("got error %v", err)
	}
}
