//go:build linux

package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Reaper collects the children of this process. Its methods are safe for
// concurrent use.
type Reaper struct {
	signals chan os.Signal
	stop    chan struct{}
	stopped chan struct{}

	mu       sync.Mutex // guards what follows, and waiting: a pid in children is not yet reaped
	children map[int]*Child
	holds    int
	// protect is set when this process's OOM score must not be inherited.
	protect bool
}

// A Child is a process whose exit status will be collected.
type Child struct {
	pid    int
	r      *Reaper
	done   chan struct{}
	status syscall.WaitStatus // valid when done is closed
}

// New starts collecting. There must be one reaper in a process at most.
func New() *Reaper {
	r := &Reaper{
		signals:  make(chan os.Signal, 1),
		stop:     make(chan struct{}),
		stopped:  make(chan struct{}),
		children: make(map[int]*Child),
	}
	signal.Notify(r.signals, unix.SIGCHLD)
	go r.run()
	return r
}

// Close stops collecting and returns when nothing is collected any more. A
// second call panics.
func (r *Reaper) Close() {
	signal.Stop(r.signals)
	close(r.stop)
	<-r.stopped
}

func (r *Reaper) run() {
	defer close(r.stopped)
	for {
		r.mu.Lock()
		r.reap()
		r.mu.Unlock()
		select {
		case <-r.signals:
		case <-r.stop:
			return
		}
	}
}

// ProtectSelf gives this process an OOM score under which the kernel never
// kills it, and children the normal one. The first process of a machine does
// not need it.
func (r *Reaper) ProtectSelf() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := setOOMScore("-1000"); err != nil {
		return err
	}
	r.protect = true
	return nil
}

func setOOMScore(s string) error { return os.WriteFile("/proc/self/oom_score_adj", []byte(s), 0) }

// Start executes the program at path. See [syscall.ForkExec] for attr.
func (r *Reaper) Start(path string, argv []string, attr *syscall.ProcAttr) (*Child, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.protect {
		if err := setOOMScore("0"); err != nil {
			return nil, err
		}
		defer func() { _ = setOOMScore("-1000") }() // it was allowed before
	}
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return nil, &os.PathError{Op: "exec", Path: path, Err: err}
	}
	return r.add(pid), nil
}

func (r *Reaper) add(pid int) *Child {
	c := &Child{pid: pid, r: r, done: make(chan struct{})}
	r.children[pid] = c
	return c
}

// Hold keeps orphans from being collected until the function that it returns
// is called; a second call of that does nothing.
func (r *Reaper) Hold() (release func()) {
	r.mu.Lock()
	r.holds++
	r.mu.Unlock()
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.holds--
		r.reap()
	})
}

// ErrNotChild means that a pid is not, or no longer, a child of this process.
var ErrNotChild = errors.New("not a child of this process")

// Adopt makes a child known that something else started. The caller must have
// had a [Reaper.Hold] since before the process could end.
func (r *Reaper) Adopt(pid int) (*Child, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if pid <= 1 || r.children[pid] != nil {
		return nil, fmt.Errorf("adopting pid %d: %w", pid, ErrNotChild)
	}
	err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil {
		return nil, fmt.Errorf("adopting pid %d: %w: %w", pid, ErrNotChild, err)
	}
	c := r.add(pid)
	r.reap()
	return c, nil
}

// reap collects what has ended; the caller holds r.mu.
func (r *Reaper) reap() {
	if r.holds == 0 {
		for {
			var ws syscall.WaitStatus
			pid, err := wait4(-1, &ws)
			if err != nil || pid <= 0 {
				return
			}
			r.ended(pid, ws)
		}
	}
	for pid := range r.children {
		var ws syscall.WaitStatus
		if got, err := wait4(pid, &ws); err == nil && got == pid {
			r.ended(pid, ws)
		}
	}
}

func wait4(pid int, ws *syscall.WaitStatus) (int, error) {
	for {
		got, err := syscall.Wait4(pid, ws, syscall.WNOHANG, nil)
		if err != syscall.EINTR {
			return got, err
		}
	}
}

func (r *Reaper) ended(pid int, ws syscall.WaitStatus) {
	if c := r.children[pid]; c != nil {
		delete(r.children, pid)
		c.status = ws
		close(c.done)
	}
}

// PID returns the child's process id, which nothing else has until Done.
func (c *Child) PID() int { return c.pid }

// Done is closed when the child has ended and its status is there.
func (c *Child) Done() <-chan struct{} { return c.done }

// Status returns how the child ended. Call it after Done only.
func (c *Child) Status() syscall.WaitStatus { return c.status }

// Signal sends a signal, and never to another process: after the child's end
// it returns [os.ErrProcessDone].
func (c *Child) Signal(sig syscall.Signal) error {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if c.r.children[c.pid] != c {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(c.pid, sig); err != nil {
		return fmt.Errorf("sending signal %d to %d: %w", sig, c.pid, err)
	}
	return nil
}
