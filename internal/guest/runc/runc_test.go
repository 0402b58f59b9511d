//go:build linux

package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest/reaper"
)

func TestMain(m *testing.M) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// fake returns a runtime whose program is a shell script. Its first lines take
// the arguments apart into variables.
func fake(t *testing.T, script string) *Runtime {
	t.Helper()
	r := reaper.New()
	t.Cleanup(r.Close)
	dir := t.TempDir()
	head := `#!/bin/sh
echo "$*" >> ` + dir + `/calls
while [ $# -gt 1 ]; do case $1 in
--log) log=$2; shift;; --pid-file) pid=$2; shift;; --process) process=$2; shift;;
--root|--log-format|--bundle|--console-socket) shift;; --*) ;; *) op=$1;; esac; shift; done
`
	if err := os.WriteFile(dir+"/runc", []byte(head+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return &Runtime{Path: dir + "/runc", Root: dir + "/root", Temp: dir + "/tmp", Reaper: r}
}

func calls(t *testing.T, r *Runtime) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(r.Path), "calls"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func noTemp(t *testing.T, r *Runtime) {
	t.Helper()
	if left, err := os.ReadDir(r.Temp); err != nil || len(left) > 0 {
		t.Errorf("%v is left in the temporary folder, %v", left, err)
	}
}

func TestCreate(t *testing.T) {
	// Its init ends at once; the status must not get lost.
	r := fake(t, `sh -c 'exit 9' >/dev/null 2>&1 & echo $! > $pid`)
	c, err := r.Create(t.Context(), "c1", "/bundle", IO{})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("init was not collected")
	}
	if got := c.Status().ExitStatus(); got != 9 {
		t.Errorf("got %d, want 9", got)
	}
	if got := calls(t, r); !strings.Contains(got, "--log-format json create --bundle /bundle --pid-file ") || !strings.HasSuffix(got, " c1\n") {
		t.Errorf("got %s", got)
	}
	noTemp(t, r)
}

func TestFailures(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		"message": {`echo '{"level":"info","msg":"a"}
{"level":"error","msg":"the cause"}' > $log; exit 1`, "runc create c1: the cause"},
		"no log":       {`exit 3`, "runc create c1: it ended without a message, with status 3"},
		"killed":       {`kill -9 $$`, "runc create c1: it ended without a message, with signal 9"},
		"garbage log":  {`echo 'panic: oh' > $log; exit 2`, "runc create c1: panic: oh"},
		"no pid":       {`exit 0`, `runc create c1: its pid file has ""`},
		"pid not ours": {`echo 1 > $pid`, `runc create c1: its pid file has "1\n"`},
		"foreign pid":  {`echo $$ > $pid`, "runc create c1: adopting pid"},
	} {
		t.Run(name, func(t *testing.T) {
			r := fake(t, `[ $op = delete ] && { echo '{"level":"error","msg":"container does not exist"}' > $log; exit 1; }
`+c.script)
			_, err := r.Create(t.Context(), "c1", "/bundle", IO{})
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if got := calls(t, r); !strings.Contains(got, " delete --force c1") {
				t.Errorf("what was made was not deleted: %s", got)
			}
			noTemp(t, r)
		})
	}
}

func TestContextEndsCall(t *testing.T) {
	r := fake(t, `exec sleep 1000`)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Start(ctx, "c1", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	noTemp(t, r)
}

func TestNoProgram(t *testing.T) {
	r := fake(t, "")
	r.Path = "/no/such/program"
	if err := r.Start(t.Context(), "c1", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestExec(t *testing.T) {
	r := fake(t, `grep -q '"args"' $process || exit 1; echo hello; sleep 0.1 >/dev/null 2>&1 & echo $! > $pid`)
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	c, err := r.Exec(t.Context(), "c1", []byte(`{"args":["x"]}`), IO{Files: []*os.File{nil, pw, nil}})
	pw.Close()
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	b := make([]byte, 6)
	if n, _ := pr.Read(b); string(b[:n]) != "hello\n" {
		t.Errorf("got %q", b[:n])
	}
	noTemp(t, r)
}

func TestDelete(t *testing.T) {
	for message, want := range map[string]string{
		"container does not exist": "", "container is not stopped": "runc delete c1: container is not stopped",
	} {
		t.Run(message, func(t *testing.T) {
			r := fake(t, `echo '{"level":"error","msg":"`+message+`"}' > $log; exit 1`)
			err := r.Delete(t.Context(), "c1")
			if got := fmt.Sprint(err); err == nil && want != "" || err != nil && got != want {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestTerminalIsMissing(t *testing.T) {
	// The program ends well and sends no terminal.
	r := fake(t, `sleep 100 >/dev/null 2>&1 & echo $! > $pid`)
	old := consoleTime
	consoleTime = 50 * time.Millisecond
	defer func() { consoleTime = old }()
	_, err := r.Exec(t.Context(), "c1", []byte("{}"), IO{Terminal: func(int) error { t.Error("called"); return nil }})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
	}
	noTemp(t, r)
}

func TestConsole(t *testing.T) {
	r := &Runtime{Temp: t.TempDir()}
	c, err := r.listenConsole()
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	send := func(oob []byte) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := errors.Join(unix.Connect(fd, &unix.SockaddrUnix{Name: c.path}), unix.Sendmsg(fd, []byte("/dev/ptmx"), oob, nil, 0)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	send(unix.UnixRights(int(f.Fd())))
	fd, err := c.receive()
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil || st.Mode&syscall.S_IFMT != syscall.S_IFCHR {
		t.Errorf("got %v, %v", st.Mode, err)
	}
	unix.Close(fd)
	send(nil)
	if _, err := c.receive(); err == nil {
		t.Error("a message without a terminal was taken")
	}
}

// waiting returns a runtime with a container whose init waits at its fifo and
// then runs script.
func waiting(t *testing.T, wait string) (*Runtime, *reaper.Child) {
	t.Helper()
	r := fake(t, "echo called >&2; exit 1")
	dir := r.Root + "/c1"
	if err := errors.Join(os.MkdirAll(dir, 0o700), unix.Mkfifo(dir+"/"+fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	init, err := r.Reaper.Start("/bin/sh", []string{"sh", "-c", "cd " + dir + "; " + wait}, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	return r, init
}

func TestStart(t *testing.T) {
	for name, c := range map[string]struct {
		wait string
		want error
	}{
		"waiting":        {"printf 0 > exec.fifo; exit 5", nil},
		"not there yet":  {"sleep 0.2; printf 0 > exec.fifo; exit 5", nil},
		"ends before":    {"exit 5", ErrEnded},
		"ends meanwhile": {"sleep 0.2; exit 5", ErrEnded},
		"ends at it":     {"sleep 0.2; : > exec.fifo; exit 5", ErrEnded},
	} {
		t.Run(name, func(t *testing.T) {
			r, init := waiting(t, c.wait)
			if err := r.Start(t.Context(), "c1", init); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			<-init.Done()
			if got := init.Status().ExitStatus(); got != 5 {
				t.Errorf("init ended with %d, want 5", got)
			}
			if _, err := os.Stat(r.Root + "/c1/" + fifo); (err == nil) != (c.want != nil) {
				t.Errorf("the fifo: got %v", err)
			}
		})
	}
}

func TestStartContext(t *testing.T) {
	r, init := waiting(t, "exec sleep 1000")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Start(ctx, "c1", init); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	init.Signal(unix.SIGKILL)
	<-init.Done()
}
