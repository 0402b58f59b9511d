package qemu

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A process is a running QEMU. It dies with this process: the parent's death
// signal comes when the *thread* that started it ends, so a goroutine keeps
// that thread until QEMU has ended.
type process struct {
	cmd    *exec.Cmd
	stderr lines
	done   chan struct{} // closed when QEMU has ended and stderr is complete
	status syscall.WaitStatus
}

// spawn starts cmd, whose standard error it takes, in a session of its own so
// that the terminal's signals go to the owner only.
func spawn(cmd *exec.Cmd) (*process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = w
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL

	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := cmd.Start()
		w.Close()
		started <- err
		if err != nil {
			r.Close()
			return
		}
		io.Copy(&p.stderr, r) // ends when QEMU has: it cannot fork
		r.Close()
		cmd.Wait()
		p.status, _ = cmd.ProcessState.Sys().(syscall.WaitStatus)
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends QEMU at once, if it has not ended.
func (p *process) kill() { p.cmd.Process.Kill() }

// describe fills the members of an end that the exit status tells.
func (p *process) describe(e *end) {
	e.stderr = p.stderr.all()
	if !p.status.Signaled() {
		e.code = p.status.ExitStatus()
		return
	}
	sig := p.status.Signal()
	e.signal = sig.String()
	switch sig {
	case syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGSEGV, syscall.SIGSYS, syscall.SIGTRAP:
		e.crash = true
	}
}

// socketpair returns a connection and, for QEMU, the other end as a file.
func socketpair(name string) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}
