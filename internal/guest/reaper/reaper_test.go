//go:build linux

package reaper

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func start(t *testing.T, r *Reaper, script string) *Child {
	t.Helper()
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}}
	c, err := r.Start("/bin/sh", []string{"sh", "-c", script}, attr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wait(t *testing.T, c *Child) syscall.WaitStatus {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the child was not collected")
	}
	return c.Status()
}

func newReaper(t *testing.T) *Reaper {
	r := New()
	t.Cleanup(r.Close)
	return r
}

func TestStatus(t *testing.T) {
	r := newReaper(t)
	if got := wait(t, start(t, r, "exit 7")).ExitStatus(); got != 7 {
		t.Errorf("got %d, want 7", got)
	}
	c := start(t, r, "exec sleep 100")
	if err := c.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, c); !got.Signaled() || got.Signal() != unix.SIGKILL {
		t.Errorf("got %v, want killed", got)
	}
	if err := c.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to the dead: got %v, want %v", err, os.ErrProcessDone)
	}
	if _, err := r.Start("/no/such/program", []string{"x"}, &syscall.ProcAttr{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

// orphan starts a child that leaves a process behind, which runs script when
// the child has been collected, and returns its pid.
func orphan(t *testing.T, r *Reaper, script string) int {
	t.Helper()
	inR, inW, err1 := os.Pipe()
	outR, outW, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer outR.Close()
	defer inW.Close() // lets the orphan go on
	c, err := r.Start("/bin/sh", []string{"sh", "-c", "(read x; " + script + ") <&3 >/dev/null & echo $!"},
		&syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, outW.Fd(), 2, inR.Fd()}})
	inR.Close()
	outW.Close()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(outR)
	if err != nil {
		t.Fatal(err)
	}
	wait(t, c)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestAdopt(t *testing.T) {
	r := newReaper(t)
	release := r.Hold()
	pid := orphan(t, r, "exit 3") // it may end before it is adopted
	c, err := r.Adopt(pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Adopt(pid); !errors.Is(err, ErrNotChild) {
		t.Errorf("adopted twice: got %v, want %v", err, ErrNotChild)
	}
	release()
	release()
	if got := wait(t, c).ExitStatus(); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
	for _, pid := range []int{0, 1, -1, os.Getpid(), pid} {
		if _, err := r.Adopt(pid); !errors.Is(err, ErrNotChild) {
			t.Errorf("pid %d: got %v, want %v", pid, err, ErrNotChild)
		}
	}
}

func TestOrphansAreCollected(t *testing.T) {
	r := newReaper(t)
	release := r.Hold()
	pid := orphan(t, r, "exit 0")
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("an orphan was collected under a hold: %v", err)
	}
	release()
	for syscall.Kill(pid, 0) == nil {
		// Collecting it needs a signal that may still be on its way.
		wait(t, start(t, r, ":"))
	}
}

func TestMany(t *testing.T) {
	r := newReaper(t)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			c := start(t, r, "exit "+strconv.Itoa(i))
			if got := wait(t, c).ExitStatus(); got != i {
				t.Errorf("got %d, want %d", got, i)
			}
		})
	}
	wg.Wait()
	if len(r.children) != 0 {
		t.Errorf("%d children are left", len(r.children))
	}
}
