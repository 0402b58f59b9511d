//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/internal/guest/boot"
	"github.com/byrevm/byre/internal/guest/modules"
	"github.com/byrevm/byre/internal/guest/reaper"
	"github.com/byrevm/byre/internal/guest/stdio"
)

// inNamespace says that this process has a mount namespace of its own.
const inNamespace = "BYRE_TEST_NAMESPACE"

// TestMain runs the tests in a mount namespace, whose /run is theirs: the
// agent's folders have fixed places.
func TestMain(m *testing.M) {
	if os.Getuid() == 0 && os.Getenv(inNamespace) == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		if err == nil {
			os.Exit(0)
		}
		fmt.Fprintln(os.Stderr, "no mount namespace:", err)
	}
	if os.Getenv(inNamespace) != "" {
		err := errors.Join(
			unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""),
			unix.Mount("tmpfs", "/run", "tmpfs", 0, ""),
			unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0),
		)
		if err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// A machine is an agent with a host, in this process.
type machine struct {
	agent *agent
	host  *bridge.Client
	dir   string // the runtime's
	ports sync.Map
}

// runcScript stands for the runtime. A container's init waits for start and
// then runs the script that the test has put into a file.
const runcScript = `#!/bin/sh
while [ $# -gt 1 ]; do case $1 in
--root) root=$2; shift;; --log) log=$2; shift;; --pid-file) pid=$2; shift;; --process) process=$2; shift;;
--log-format|--bundle|--console-socket) shift;; --*) ;; *) op=$1;; esac; shift; done
id=$1
dir=$(dirname $0)
fail() { echo "{\"level\":\"error\",\"msg\":\"$1\"}" > $log; exit 1; }
[ -e $dir/fail-$op ] && fail "told to fail"
exec 7<&0 # a shell gives no input to what it runs in the background
case $op in
create) (exec <&7 7<&-; while [ ! -e $dir/$id.go ]; do sleep 0.01; done; exec sh $dir/init) & echo $! > $pid;;
start) touch $dir/$id.go;;
exec) sh $dir/exec & echo $! > $pid;;
delete) [ -e $dir/$id.go ] || fail "container does not exist"; rm $dir/$id.go;;
esac
`

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("the agent's folders need root")
	}
	m := &machine{dir: t.TempDir()}
	r := reaper.New()
	t.Cleanup(r.Close)
	ready := func() error { return nil }
	ix, err := modules.ReadIndex("/no/index")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	m.agent = newAgent(config{
		env:     &boot.Env{Reaper: r, Modules: modules.NewLoader(ix), Devices: ready, Ready: ready},
		log:     log,
		dial:    m.dial,
		cgroups: ready,
	})
	m.script(t, "runc", runcScript)
	m.agent.runtime.Path = filepath.Join(m.dir, "runc")
	guest, host := net.Pipe()
	served := make(chan error)
	go func() { served <- m.agent.server.Serve(context.Background(), guest) }()
	m.host, err = bridge.Connect(t.Context(), host, bridge.Config{Listen: m.listen, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.host.Close()
		<-served
		for _, c := range m.agent.containers {
			c.child.Signal(unix.SIGKILL)
			<-c.child.Done()
		}
	})
	return m
}

func (m *machine) script(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// listener is a vsock port of the host.
type listener struct {
	m     *machine
	port  uint32
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (m *machine) listen(port uint32) (net.Listener, error) {
	l := &listener{m: m, port: port, conns: make(chan net.Conn, 1), done: make(chan struct{})}
	m.ports.Store(port, l)
	return l, nil
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error {
	l.once.Do(func() { l.m.ports.Delete(l.port); close(l.done) })
	return nil
}
func (l *listener) Addr() net.Addr { return &net.UnixAddr{} }

func (m *machine) dial(_ context.Context, port uint32) (stdio.Conn, error) {
	l, ok := m.ports.Load(port)
	if !ok {
		return nil, unix.ECONNRESET
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "vsock")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		ends[i] = c.(*net.UnixConn)
	}
	l.(*listener).conns <- ends[1]
	return ends[0], nil
}

// params are what a host sends for a process of a container.
type params struct {
	CreateStdInPipe, CreateStdOutPipe, CreateStdErrPipe bool
	OciProcess                                          *specs.Process `json:",omitempty"`
}

func (m *machine) spec(t *testing.T) *specs.Spec {
	t.Helper()
	return &specs.Spec{Version: "1.0.2", Root: &specs.Root{Path: t.TempDir()}, Process: &specs.Process{Args: []string{"x"}, Cwd: "/"}}
}

func document(id string, s *specs.Spec) hcsschema.LinuxHostedSystem {
	return hcsschema.LinuxHostedSystem{
		SchemaVersion: &hcsschema.Version{Major: 2, Minor: 1}, OciBundlePath: "/run/gcs/c/" + id, OciSpecification: s,
	}
}

func (m *machine) create(t *testing.T, id, script string) cow.Container {
	t.Helper()
	m.script(t, "init", script)
	c, err := m.host.CreateContainer(t.Context(), id, document(id, m.spec(t)))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

type processHost interface {
	CreateProcess(context.Context, any) (cow.Process, error)
}

func start(t *testing.T, h processHost, params any) cow.Process {
	t.Helper()
	p, err := h.CreateProcess(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// finish reads a process's output and waits for its end.
func finish(t *testing.T, p cow.Process) (out string, code int) {
	t.Helper()
	_, stdout, stderr := p.Stdio()
	var b []byte
	if stderr != nil {
		go io.Copy(io.Discard, stderr)
	}
	if stdout != nil {
		b, _ = io.ReadAll(stdout)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	code, err := p.ExitCode()
	if err != nil {
		t.Error(err)
	}
	return string(b), code
}

func TestContainer(t *testing.T) {
	m := newMachine(t)
	c := m.create(t, "c1", "cat; echo err >&2; exit 7")
	p := start(t, c, params{CreateStdInPipe: true, CreateStdOutPipe: true, CreateStdErrPipe: true})
	stdin, _, _ := p.Stdio()
	go func() {
		io.WriteString(stdin, "hello\n")
		p.CloseStdin(context.Background())
	}()
	if out, code := finish(t, p); out != "hello\n" || code != 7 {
		t.Errorf("got %q, %d; want hello, 7", out, code)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("the host was not told of the end: %v", err)
	}
	if _, err := os.Stat("/run/gcs/c/c1/config.json"); err != nil {
		t.Error(err)
	}
	if err := m.host.DeleteContainerState(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if err := m.host.DeleteContainerState(t.Context(), "c1"); !errors.Is(err, bridge.ErrNoContainer) {
		t.Errorf("deleted twice: got %v, want %v", err, bridge.ErrNoContainer)
	}
	if _, err := os.Stat("/run/gcs/c/c1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
	if len(m.agent.processes) > 0 || len(m.agent.containers) > 0 {
		t.Errorf("left: %v, %v", m.agent.processes, m.agent.containers)
	}
}

func TestExec(t *testing.T) {
	m := newMachine(t)
	c := m.create(t, "c1", "exec sleep 1000")
	oci := &specs.Process{Args: []string{"x"}, Cwd: "/"}
	if _, err := c.CreateProcess(t.Context(), params{OciProcess: oci}); !errors.Is(err, bridge.ErrInvalidState) {
		t.Errorf("before init: got %v, want %v", err, bridge.ErrInvalidState)
	}
	init := start(t, c, params{})
	if _, err := c.CreateProcess(t.Context(), params{}); !errors.Is(err, bridge.ErrInvalidState) {
		t.Errorf("init twice: got %v, want %v", err, bridge.ErrInvalidState)
	}
	m.script(t, "exec", "echo out; kill -15 $$")
	if out, code := finish(t, start(t, c, params{OciProcess: oci, CreateStdOutPipe: true})); out != "out\n" || code != 128+15 {
		t.Errorf("got %q, %d", out, code)
	}
	// A signal reaches the one process that it is for.
	m.script(t, "exec", "exec sleep 1000")
	p := start(t, c, params{OciProcess: oci})
	if ok, err := p.Signal(t.Context(), hcsschema.SignalProcessOptionsLCOW{Signal: 10}); !ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	if _, code := finish(t, p); code != 128+10 {
		t.Errorf("got %d, want 138", code)
	}
	if ok, err := p.Kill(t.Context()); ok || err != nil {
		t.Errorf("signal to the dead: got %v, %v", ok, err)
	}
	if _, err := m.agent.signal(t.Context(), &bridge.SignalProcessRequest{
		Request: bridge.Request{ContainerID: "c1"}, ProcessID: uint32(init.Pid()), Options: []byte(`{"Signal":99}`),
	}); err == nil {
		t.Error("signal 99 was sent")
	}
	if err := p.ResizeConsole(t.Context(), 80, 25); err == nil {
		t.Error("a process without terminal was resized")
	}
	if err := m.host.DeleteContainerState(t.Context(), "c1"); !errors.Is(err, bridge.ErrInvalidState) {
		t.Errorf("deleting a running container: got %v, want %v", err, bridge.ErrInvalidState)
	}
	if err := c.Terminate(t.Context()); err != nil {
		t.Error(err)
	}
	if _, code := finish(t, init); code != 128+9 {
		t.Errorf("got %d, want 137", code)
	}
	if err := errors.Join(c.Wait(), c.Terminate(t.Context())); err != nil {
		t.Errorf("terminating what has ended: %v", err)
	}
}

func TestExitType(t *testing.T) {
	for sig, want := range map[unix.Signal]bridge.NotificationType{
		0: "", unix.SIGTERM: bridge.NotifyGracefulExit, unix.SIGKILL: bridge.NotifyForcedExit,
	} {
		t.Run(sig.String(), func(t *testing.T) {
			m := newMachine(t)
			c := m.create(t, "c1", "read x")
			p := start(t, c, params{CreateStdInPipe: true})
			ctr, err := m.agent.container("c1")
			if err != nil {
				t.Fatal(err)
			}
			if sig == 0 {
				p.CloseStdin(t.Context())
			} else if _, err := p.Signal(t.Context(), hcsschema.SignalProcessOptionsLCOW{Signal: int(sig)}); err != nil {
				t.Fatal(err)
			}
			finish(t, p)
			c.Wait()
			ctr.mu.Lock()
			defer ctr.mu.Unlock()
			if got := ctr.exit; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestExitAfterOutput(t *testing.T) {
	m := newMachine(t)
	c := m.create(t, "c1", "echo all of it")
	p := start(t, c, params{CreateStdOutPipe: true})
	waited := make(chan error, 1)
	go func() { waited <- p.Wait() }()
	select {
	case err := <-waited:
		t.Errorf("the exit was reported before the output was read: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if out, code := finish(t, p); out != "all of it\n" || code != 0 {
		t.Errorf("got %q, %d", out, code)
	}
}

func TestNeverStarted(t *testing.T) {
	m := newMachine(t)
	c := m.create(t, "c1", "")
	if err := c.Terminate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("the host was not told of the end: %v", err)
	}
	if _, err := c.CreateProcess(t.Context(), params{}); !errors.Is(err, bridge.ErrInvalidState) {
		t.Errorf("got %v, want %v", err, bridge.ErrInvalidState)
	}
	if err := m.host.DeleteContainerState(t.Context(), "c1"); err != nil {
		t.Error(err)
	}
}

func TestCreateFailures(t *testing.T) {
	m := newMachine(t)
	s := m.spec(t)
	try := func(id string, doc any) error {
		_, err := m.host.CreateContainer(t.Context(), id, doc)
		return err
	}
	old := document("c1", s)
	old.SchemaVersion = &hcsschema.Version{Major: 1}
	outside := document("c1", s)
	outside.OciBundlePath = "/etc/x"
	if err := try("c1", old); !errors.Is(err, bridge.ErrInvalidJSON) {
		t.Errorf("old schema: got %v, want %v", err, bridge.ErrInvalidJSON)
	}
	if err := try("c1", hcsschema.LinuxHostedSystem{SchemaVersion: &hcsschema.Version{Major: 2, Minor: 1}}); !errors.Is(err, bridge.ErrInvalidJSON) {
		t.Errorf("no specification: got %v, want %v", err, bridge.ErrInvalidJSON)
	}
	if try("c1", outside) == nil || try("../x", document("x", s)) == nil {
		t.Error("a bad id or bundle was accepted")
	}
	// Whatever fails, the id is free again and nothing is left.
	m.script(t, "fail-create", "")
	if err := try("c1", document("c1", s)); err == nil || !strings.Contains(err.Error(), "told to fail") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat("/run/gcs/c/c1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is left: %v", err)
	}
	os.Remove(m.dir + "/fail-create")
	c := m.create(t, "c1", "exit 0")
	if err := try("c1", document("c1", s)); err == nil {
		t.Error("one id was taken twice")
	}
	// init that cannot be started ends the container.
	m.script(t, "fail-start", "")
	if _, err := c.CreateProcess(t.Context(), params{CreateStdOutPipe: true}); err == nil || !strings.Contains(err.Error(), "told to fail") {
		t.Errorf("got %v", err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

func TestMachineProcess(t *testing.T) {
	m := newMachine(t)
	p := start(t, m.host, hcsschema.ProcessParameters{
		CommandLine: `sh -c 'echo "$A $PWD"; cat; exit 3'`, WorkingDirectory: "/tmp", Environment: map[string]string{"A": "b", "PATH": "/usr/bin:/bin"},
		CreateStdInPipe: true, CreateStdOutPipe: true,
	})
	stdin, _, _ := p.Stdio()
	io.WriteString(stdin, "in")
	p.CloseStdin(t.Context())
	if out, code := finish(t, p); out != "b /tmp\nin" || code != 3 {
		t.Errorf("got %q, %d", out, code)
	}
	p = start(t, m.host, hcsschema.ProcessParameters{CommandArgs: []string{"sleep", "1000"}})
	if ok, err := p.Kill(t.Context()); !ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	if _, code := finish(t, p); uint32(code) != 0xffffffff {
		t.Errorf("got %d, want all ones", code)
	}
	p = start(t, m.host, hcsschema.ProcessParameters{
		CommandArgs: []string{"sh", "-c", "stty size; read x; stty size"}, EmulateConsole: true, ConsoleSize: []int32{20, 50}, CreateStdInPipe: true, CreateStdOutPipe: true,
	})
	stdin, stdout, _ := p.Stdio()
	b := make([]byte, 7)
	io.ReadFull(stdout, b)
	if err := p.ResizeConsole(t.Context(), 60, 30); err != nil || string(b) != "20 50\r\n" {
		t.Errorf("got %q, %v", b, err)
	}
	io.WriteString(stdin, "\n")
	if out, _ := finish(t, p); !strings.HasSuffix(out, "30 60\r\n") {
		t.Errorf("got %q", out)
	}
	for name, bad := range map[string]hcsschema.ProcessParameters{
		"no command":   {},
		"missing":      {CommandArgs: []string{"/no/such/program"}},
		"bad quotes":   {CommandLine: "sh 'x"},
		"relative cwd": {CommandArgs: []string{"true"}, WorkingDirectory: "x"},
		"missing cwd":  {CommandArgs: []string{"true"}, WorkingDirectory: "/no/such/dir"},
		"unknown user": {CommandArgs: []string{"true"}, User: "no-such-user"},
	} {
		if _, err := m.host.CreateProcess(t.Context(), bad); err == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
}

func TestModify(t *testing.T) {
	m := newMachine(t)
	for _, p := range []string{"a", "b"} {
		if err := errors.Join(os.MkdirAll("/run/layers/"+p, 0o755), os.WriteFile("/run/layers/"+p+"/"+p, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	request := func(rt hcsschema.RequestType, t hcsschema.ResourceType, settings any) error {
		return m.host.Modify(context.Background(), hcsschema.GuestRequest{RequestType: rt, ResourceType: t, Settings: settings})
	}
	layers := hcsschema.CombinedLayers{ContainerRootPath: "/run/u", Layers: []hcsschema.Layer{{Path: "/run/layers/a"}, {Path: "/run/layers/b"}}}
	if err := request("", hcsschema.ResourceCombinedLayers, layers); err != nil { // absent is Add
		t.Fatal(err)
	}
	if _, err := os.Stat("/run/u/b"); err != nil {
		t.Error(err)
	}
	if err := request(hcsschema.Remove, hcsschema.ResourceCombinedLayers, hcsschema.CombinedLayers{ContainerRootPath: "/run/u"}); err != nil {
		t.Fatal(err)
	}
	nic := hcsschema.LCOWNetworkAdapter{NamespaceID: "N", ID: "a"}
	if err := request(hcsschema.Remove, hcsschema.ResourceNetwork, nic); err != nil { // it is not there
		t.Error(err)
	}
	for name, err := range map[string]error{
		"unknown type":    request(hcsschema.Add, "Nothing", nil),
		"unknown request": request(hcsschema.Update, hcsschema.ResourceNetwork, nic),
		"bad settings":    request(hcsschema.Add, hcsschema.ResourceNetwork, []string{"x"}),
		"no MAC address":  request(hcsschema.Add, hcsschema.ResourceNetwork, nic),
		"no settings":     request(hcsschema.Add, hcsschema.ResourceCombinedLayers, nil),
		"no path":         request(hcsschema.Add, hcsschema.ResourceVPMemDevice, nil),
		"bad path":        request(hcsschema.Remove, hcsschema.ResourceVPMemDevice, hcsschema.LCOWMappedVPMemDevice{MountPath: "/etc"}),
		"wrong case":      request(hcsschema.Add, "network", nic),
	} {
		if err == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
}

func TestProperties(t *testing.T) {
	m := newMachine(t)
	c := m.create(t, "c1", "exit 0")
	if p, err := c.PropertiesV2(t.Context()); err != nil || p.LCOWMetrics != nil {
		t.Errorf("nothing asked for: got %v, %v", p, err)
	}
	if p, err := c.PropertiesV2(t.Context(), hcsschema.PTProcessList); err != nil || len(p.ProcessList) > 0 {
		t.Errorf("got %v, %v", p, err)
	}
	if _, err := c.PropertiesV2(t.Context(), hcsschema.PTStatistics); err == nil {
		t.Error("figures of a container without cgroup")
	}
	stacks, err := m.host.DumpStacks(t.Context())
	if err != nil || !strings.Contains(stacks, "dumpStacks") {
		t.Errorf("got %d bytes, %v", len(stacks), err)
	}
}

func TestUnknown(t *testing.T) {
	m := newMachine(t)
	if _, err := m.agent.wait(t.Context(), &bridge.WaitForProcessRequest{Request: bridge.Request{ContainerID: "c9"}, ProcessID: 5}); !errors.Is(err, bridge.ErrElementNotFound) {
		t.Errorf("wait: got %v, want %v", err, bridge.ErrElementNotFound)
	}
	if _, err := m.agent.signal(t.Context(), &bridge.SignalProcessRequest{Request: bridge.Request{ContainerID: "c9"}, ProcessID: 5}); !errors.Is(err, bridge.ErrNoContainer) {
		t.Errorf("signal: got %v, want %v", err, bridge.ErrNoContainer)
	}
	if _, err := m.agent.signal(t.Context(), &bridge.SignalProcessRequest{Request: bridge.Request{ContainerID: bridge.NilContainer}, ProcessID: 1}); !errors.Is(err, bridge.ErrElementNotFound) {
		t.Errorf("signal to the agent: got %v, want %v", err, bridge.ErrElementNotFound)
	}
	if _, err := m.agent.shutdownForced(t.Context(), &bridge.Request{ContainerID: "c9"}); !errors.Is(err, bridge.ErrNoContainer) {
		t.Errorf("shutdown: got %v, want %v", err, bridge.ErrNoContainer)
	}
}

func TestWaitTimeout(t *testing.T) {
	m := newMachine(t)
	p := start(t, m.host, hcsschema.ProcessParameters{CommandArgs: []string{"sleep", "1000"}})
	_, err := m.agent.wait(t.Context(), &bridge.WaitForProcessRequest{
		Request: bridge.Request{ContainerID: bridge.NilContainer}, ProcessID: uint32(p.Pid()), TimeoutInMs: 10,
	})
	if !errors.Is(err, bridge.ErrTimeout) {
		t.Errorf("got %v, want %v", err, bridge.ErrTimeout)
	}
	p.Kill(t.Context())
	finish(t, p)
}

func TestManyContainers(t *testing.T) {
	m := newMachine(t)
	m.script(t, "init", "echo $$; exit 0")
	var wg sync.WaitGroup
	for i := range 20 {
		spec := m.spec(t)
		wg.Go(func() {
			id := fmt.Sprintf("c%d", i)
			c, err := m.host.CreateContainer(t.Context(), id, document(id, spec))
			if err != nil {
				t.Error(err)
				return
			}
			p, err := c.CreateProcess(t.Context(), params{CreateStdOutPipe: true})
			if err != nil {
				t.Error(err)
				return
			}
			if out, code := finish(t, p); out == "" || code != 0 {
				t.Errorf("got %q, %d", out, code)
			}
			c.Wait()
			p.Close()
			if err := m.host.DeleteContainerState(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, _ := filepath.Glob("/run/gcs/c/*"); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}
