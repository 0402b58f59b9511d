//go:build linux

package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest/reaper"
)

// callTime is how long one run of the program may take.
const callTime = 2 * time.Minute

// A Runtime is the program and where it keeps its state.
type Runtime struct {
	Path   string // of the program
	Root   string // its state
	Temp   string // for files of a call; both are made when they are needed
	Reaper *reaper.Reaper
	// Args are put before every command.
	Args []string
}

// IO is what a new process gets for its standard streams: three files, or a
// terminal.
type IO struct {
	Files []*os.File // descriptors 0, 1 and 2
	// Terminal, if not nil, is called with the master side of the process's
	// new terminal, and owns it.
	Terminal func(master int) error
}

// Error is a failure that the program reports.
type Error struct {
	Op      string // its command
	ID      string // the container
	Message string
}

func (e *Error) Error() string { return "runc " + e.Op + " " + e.ID + ": " + e.Message }

// Why the program of a process could not be executed. An [Error] that is one
// of them wraps it.
var (
	ErrNoProgram     = errors.New("no such program")
	ErrNotExecutable = errors.New("program cannot be executed")
)

// Unwrap returns the class of the failure, nil if it has none.
func (e *Error) Unwrap() error { return programError(e.Message) }

// Create makes a container of a bundle and returns its init, which waits to be
// started. On an error there is no container.
func (r *Runtime) Create(ctx context.Context, id, bundle string, io IO) (*reaper.Child, error) {
	c, err := r.spawn(ctx, id, io, "create", "--bundle", bundle)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		defer cancel()
		if e := r.call(ctx, id, "delete", "--force"); e != nil && !notThere(e) {
			err = errors.Join(err, e)
		}
	}
	return c, err
}

// Exec adds a process to a container. process is the JSON of an OCI process.
func (r *Runtime) Exec(ctx context.Context, id string, process []byte, io IO) (*reaper.Child, error) {
	f, err := r.tempFile("process")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(process)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return r.spawn(ctx, id, io, "exec", "--detach", "--process", f.Name())
}

// Delete removes what is left of a container whose init has ended. A container
// that is not there is no error.
func (r *Runtime) Delete(ctx context.Context, id string) error {
	if err := r.call(ctx, id, "delete"); err != nil && !notThere(err) {
		return err
	}
	return nil
}

func notThere(err error) bool {
	var e *Error
	return errors.As(err, &e) && strings.Contains(e.Message, "does not exist")
}

// spawn runs a command that leaves a process behind.
func (r *Runtime) spawn(ctx context.Context, id string, io IO, command ...string) (*reaper.Child, error) {
	pidFile, err := r.tempFile("pid")
	if err != nil {
		return nil, err
	}
	pidFile.Close()
	defer os.Remove(pidFile.Name())
	args := append(command[1:], "--pid-file", pidFile.Name())
	var console *console
	if io.Terminal != nil {
		if console, err = r.listenConsole(); err != nil {
			return nil, err
		}
		defer console.close()
		args = append(args, "--console-socket", console.path)
	}
	// From here until the process is adopted its end must not get lost.
	release := r.Reaper.Hold()
	defer release()
	if err := r.run(ctx, id, io.Files, command[0], args...); err != nil {
		return nil, err
	}
	pid, err := readPID(pidFile.Name())
	if err != nil {
		return nil, &Error{command[0], id, err.Error()}
	}
	child, err := r.Reaper.Adopt(pid)
	if err == nil && console != nil {
		var master int
		if master, err = console.receive(); err == nil {
			err = io.Terminal(master)
		}
		if err != nil {
			child.Signal(unix.SIGKILL)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("runc %s %s: %w", command[0], id, err)
	}
	return child, nil
}

func (r *Runtime) call(ctx context.Context, id, command string, args ...string) error {
	return r.run(ctx, id, nil, command, args...)
}

// run runs the program to its end. When ctx ends first it is killed.
func (r *Runtime) run(ctx context.Context, id string, files []*os.File, command string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	log, err := r.tempFile("log")
	if err != nil {
		return err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	fds := []uintptr{null.Fd(), null.Fd(), null.Fd()}
	for i, f := range files {
		if f != nil {
			fds[i] = f.Fd()
		}
	}
	argv := append([]string{"runc", "--root", r.Root, "--log", log.Name(), "--log-format", "json"}, r.Args...)
	argv = append(append(append(argv, command), args...), id)
	child, err := r.Reaper.Start(r.Path, argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Files: fds,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("runc %s %s: %w", command, id, err)
	}
	select {
	case <-child.Done():
	case <-ctx.Done():
		child.Signal(unix.SIGKILL)
		<-child.Done()
		return fmt.Errorf("runc %s %s: %w", command, id, ctx.Err())
	}
	ws := child.Status()
	if ws.Exited() && ws.ExitStatus() == 0 {
		return nil
	}
	msg := lastError(log)
	if msg == "" {
		msg = fmt.Sprintf("it ended without a message, with %s", describe(ws))
	}
	return &Error{command, id, msg}
}

func describe(ws syscall.WaitStatus) string {
	if ws.Signaled() {
		return "signal " + strconv.Itoa(int(ws.Signal()))
	}
	return "status " + strconv.Itoa(ws.ExitStatus())
}

func readPID(name string) (int, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("its pid file has %q", b)
	}
	return pid, nil
}

func (r *Runtime) tempFile(kind string) (*os.File, error) {
	if err := os.MkdirAll(r.Temp, 0o700); err != nil {
		return nil, err
	}
	return os.CreateTemp(r.Temp, kind)
}
