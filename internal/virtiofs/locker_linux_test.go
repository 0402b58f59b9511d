package virtiofs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const lockerFile = "VIRTIOFS_LOCKER"

// TestMain is a program of the host that locks a file, when it is told to be.
func TestMain(m *testing.M) {
	if path := os.Getenv(lockerFile); path != "" {
		if err := locks(path, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// locks does what lines say, and answers each with what the kernel does.
func locks(path string, in io.Reader, out io.Writer) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var what string
		var l unix.Flock_t
		_, _ = fmt.Sscan(lines.Text(), &what, &l.Start, &l.Len) // flock has no numbers
		cmd := unix.F_SETLK
		switch what {
		case "shared":
			err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		case "exclusive":
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		case "none":
			err = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		case "wait":
			cmd, l.Type = unix.F_SETLKW, unix.F_WRLCK
		case "read":
			l.Type = unix.F_RDLCK
		case "write":
			l.Type = unix.F_WRLCK
		case "unlock":
			l.Type = unix.F_UNLCK
		}
		if strings.Contains(lines.Text(), " ") {
			err = unix.FcntlFlock(f.Fd(), cmd, &l)
		}
		var no unix.Errno
		errors.As(err, &no)
		if _, err := fmt.Fprintln(out, int(no)); err != nil {
			return err
		}
	}
	return lines.Err()
}

// A locker is a process of the host that locks a file.
type locker struct {
	t   testing.TB
	in  io.Writer
	out *bufio.Reader
}

func newLocker(t testing.TB, path string) *locker {
	t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this test
	// The race detector lets a program end a second later.
	cmd.Env = append(os.Environ(), lockerFile+"="+path, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error("locker:", err)
		}
	})
	return &locker{t, in, bufio.NewReader(out)}
}

// do is tell and told.
func (l *locker) do(what string, want error) {
	l.t.Helper()
	l.tell(what)
	l.told(what, want)
}

func (l *locker) tell(what string) {
	l.t.Helper()
	if _, err := fmt.Fprintln(l.in, what); err != nil {
		l.t.Fatal(err)
	}
}

func (l *locker) told(what string, want error) {
	l.t.Helper()
	var no int
	if _, err := fmt.Fscanln(l.out, &no); err != nil {
		l.t.Fatal("locker:", err)
	}
	var err error
	if no != 0 {
		err = unix.Errno(no)
	}
	wantErr(l.t, "the host: "+what, err, want)
}
