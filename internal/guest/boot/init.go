//go:build linux

package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest/modules"
	"github.com/byrevm/byre/internal/guest/network"
	"github.com/byrevm/byre/internal/guest/reaper"
)

// vsockModules are the modules without which the host cannot be reached.
var vsockModules = []string{"virtio_pci", "vmw_vsock_virtio_transport", "hv_vmbus", "hv_sock"}

// modprobe is what the kernel runs when it wants a module. It is not the
// kernel's default, which it would run in vain before there is an agent.
const modprobe = "/bin/modprobe"

// An Env is what the agent is started with.
type Env struct {
	// First says that the agent is the machine's first process.
	First bool
	// Reaper is the process's one.
	Reaper *reaper.Reaper
	// Modules inserts modules.
	Modules *modules.Loader
	// Devices returns when devices can be looked for, and Ready when the
	// machine is ready for containers as well. They say what went wrong on the
	// way, always the same.
	Devices, Ready func() error
	// Log, if not nil, is for what went wrong before the agent could log.
	Log []error
	// Steps, if not nil, returns how long after the machine's start each step
	// of the preparation has ended.
	Steps func() string
}

// Main runs an agent, with the arguments after its name, and returns its exit
// status.
type Main func(env *Env, args []string) int

// Init is the first process: it prepares the machine and runs the command of
// args. The status that it returns is for [os.Exit], and then the kernel stops
// the machine.
func Init(args []string, agent Main) int {
	// A broken log stream must not end the machine. Ignoring the signal would
	// be inherited by every program; catching it is not.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	m := &machine{}
	m.step("start")
	var a InitArgs
	cmdline, err := m.commandLine()
	if err == nil {
		args = ownArgs(cmdline, args)
		a, err = ParseInit(args)
	}
	if err == nil {
		err = m.prepare(cmdline, args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
		return 1
	}
	m.env.First = true
	m.env.Steps = m.timeline
	m.env.Reaper = reaper.New()
	m.env.Devices = sync.OnceValue(m.devices)
	m.env.Ready = sync.OnceValue(func() error { return m.finish(a.Entropy) })
	go m.env.Ready()

	if a.Debug != "" {
		if _, err := m.start([]string{a.Debug}); err != nil {
			m.note(err)
		}
	}
	if cmd, ok := ourAgent(a.Command); ok {
		m.connect(cmd)
		m.step("log")
		m.env.Log = m.notes()
		return agent(&m.env, cmd.Command[1:])
	}
	if err := m.env.Ready(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
	return m.run(a.Command)
}

// machine is the state of the first process.
type machine struct {
	env  Env
	rest []string // core modules that are not in yet

	mu    sync.Mutex // guards log and steps
	log   []error
	steps []string
}

// step notes that a step of the preparation has ended.
func (m *machine) step(name string) {
	at := Uptime().Round(time.Millisecond).String()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps = append(m.steps, name+" "+at)
}

func (m *machine) timeline() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.steps, ", ")
}

// Uptime returns the time since the machine was started.
func Uptime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

func (m *machine) note(err error) {
	if err != nil {
		m.mu.Lock()
		m.log = append(m.log, err)
		m.mu.Unlock()
	}
}

func (m *machine) notes() []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.log
}

// commandLine mounts what the rest needs to begin, and reads what the kernel
// was started with.
func (m *machine) commandLine() (string, error) {
	if err := mountAll(base[:3]); err != nil {
		return "", err
	}
	m.step("mounts")
	line, err := os.ReadFile("/proc/cmdline")
	return string(line), err
}

// prepare does what must be there before the host can be reached, and leaves
// the rest to finish.
func (m *machine) prepare(cmdline string, args []string) error {
	loader, err := modules.Open(modules.IndexPath)
	if err != nil {
		return err
	}
	m.env.Modules = loader
	m.step("index")
	if r := parseRoot(cmdline); isRootLoader(r) {
		return loadRoot(r, loader, args)
	}
	if onInitramfs() {
		if err := AttachRoot(); err != nil {
			return err
		}
	} else if err := loader.Known("/proc/modules"); err != nil {
		m.note(err) // the modules of modules.img are then inserted again, in vain
	}
	first, rest := loader.Index().Split(vsockModules...)
	m.rest = rest
	m.step("root")
	m.note(loader.InsertAll(first))
	m.step("vsock")
	return nil
}

// devices inserts the modules of all devices. It runs beside the agent.
func (m *machine) devices() error {
	err := errors.Join(mountAll(base[3:]), m.env.Modules.InsertAll(m.rest))
	m.step("devices")
	return err
}

// finish does the rest, for containers and for programs. It runs beside the
// agent too.
func (m *machine) finish(entropy uint32) error {
	var seed sync.WaitGroup
	var seedErr error
	if entropy != 0 {
		seed.Go(func() {
			seedErr = FetchEntropy(context.Background(), entropy)
			m.step("entropy")
		})
	}
	err := errors.Join(
		m.env.Devices(),
		mountAll(later), linkDevices(), limits(), setHostname(), network.LoopbackUp(),
		os.WriteFile("/proc/sys/kernel/modprobe", []byte(modprobe), 0),
	)
	m.step("system")
	err = errors.Join(err, m.env.Modules.InsertAll(m.env.Modules.Index().Warm))
	m.step("file systems")
	err = errors.Join(err, coldplug("/sys", m.env.Modules.Request))
	m.step("other devices")
	seed.Wait()
	return errors.Join(err, seedErr)
}

// connect connects the log stream; without it the console has the log.
func (m *machine) connect(cmd ExecArgs) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	m.note(ConnectStdio(ctx, cmd))
}

// ourAgent tells whether the command is vsockexec and gcs of this program, and
// takes it apart.
func ourAgent(command []string) (ExecArgs, bool) {
	cmd := ExecArgs{Command: command}
	if filepath.Base(command[0]) == "vsockexec" && isSelf(command[0]) {
		var err error
		if cmd, err = ParseExec(command[1:]); err != nil {
			return ExecArgs{}, false
		}
	}
	return cmd, filepath.Base(cmd.Command[0]) == "gcs" && isSelf(cmd.Command[0])
}

func isSelf(name string) bool {
	a, err := os.Stat(name)
	if err != nil {
		return false
	}
	b, err := os.Stat("/proc/self/exe")
	return err == nil && os.SameFile(a, b)
}

func untilMS(t time.Time) int64 { return time.Until(t).Milliseconds() }

// searchPath is the PATH of commands that init runs.
const searchPath = "/sbin:/usr/sbin:/bin:/usr/bin"

func (m *machine) start(command []string) (*reaper.Child, error) {
	file, err := LookPath(command[0], searchPath)
	if err != nil {
		return nil, err
	}
	return m.env.Reaper.Start(file, command, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=" + searchPath},
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// run executes a command, and returns its exit status when it has ended.
func (m *machine) run(command []string) int {
	c, err := m.start(command)
	if err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
		return 1
	}
	<-c.Done()
	if ws := c.Status(); ws.Signaled() {
		return 128 + int(ws.Signal())
	} else {
		return ws.ExitStatus()
	}
}

// LookPath finds a program that is named without a folder in a list of folders.
func LookPath(name, dirs string) (string, error) {
	if filepath.Base(name) != name {
		return name, nil
	}
	for _, d := range filepath.SplitList(dirs) {
		f := filepath.Join(d, name)
		if st, err := os.Stat(f); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return f, nil
		}
	}
	return "", &os.PathError{Op: "exec", Path: name, Err: os.ErrNotExist}
}
