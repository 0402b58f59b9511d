package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcsschema"
)

// told is a process that prints which signals it gets.
type told struct {
	cow.Process
	out *os.File
}

func (p told) Signal(_ context.Context, options any) (bool, error) {
	fmt.Fprintf(p.out, "got %d\n", options.(hcsschema.SignalProcessOptionsLCOW).Signal)
	return true, nil
}

func (told) ResizeConsole(context.Context, uint16, uint16) error { return nil }

// catching is what TestHangup runs in another process: it prints what becomes
// of the signals that it gets.
func catching(out *os.File) {
	hangupGrace = 100 * time.Millisecond
	ctx, s := catchSignals(context.Background(), "")
	defer s.stop()
	s.forward(told{out: out}, true)
	fmt.Fprintln(out, "ready")
	<-ctx.Done()
	sig, _ := s.ended()
	fmt.Fprintf(out, "ended %d\n", sig)
}

// A hang-up goes to the command, and is the end of the run if the terminal is
// gone. It is nothing at all if byre was started with it ignored.
func TestHangup(t *testing.T) {
	if os.Getenv("BYRE_TEST_CATCHING") != "" {
		catching(os.NewFile(3, "out"))
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, trap string
		close      bool // the terminal
		signals    []syscall.Signal
		want       string
	}{
		{"terminal closed", "", true, nil, "ready, got 1, got 18, ended 1"},
		{"sent", "", false, []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGTERM}, "ready, got 1, got 10, got 15, ended 15"},
		{"ignored", `trap "" HUP;`, false, []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGTERM, syscall.SIGTERM}, "ready, got 10, got 15, got 15, ended 15"},
	} {
		t.Run(c.name, func(t *testing.T) {
			master, slave := pseudoTerminal(t)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			// Whoever runs the test may ignore hang-ups, as nohup does.
			cmd := exec.CommandContext(ctx, "env", "--default-signal=HUP", "sh", "-c", c.trap+` exec "$0" -test.run '^TestHangup$'`, exe)
			cmd.Env = append(os.Environ(), "BYRE_TEST_CATCHING=1")
			cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = slave, os.Stderr, os.Stderr, []*os.File{w}
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			w.Close()
			slave.Close()
			var lines []string
			for in := bufio.NewScanner(r); in.Scan(); { // what was sent is seen before the next is sent
				lines = append(lines, in.Text())
				if c.close {
					master.Close()
				}
				for len(c.signals) > 0 {
					sig := c.signals[0]
					c.signals = c.signals[1:]
					if err := cmd.Process.Signal(sig); err != nil {
						t.Error(err)
					}
					if sig != syscall.SIGHUP || c.trap == "" {
						break
					}
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if c.close && len(lines) > 2 { // the kernel sends two signals at once
				slices.Sort(lines[1 : len(lines)-1])
			}
			if got := strings.Join(lines, ", "); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func pseudoTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	// Fd makes the file a blocking one, which Close then waits for; this asks beside it.
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if cerr := raw.Control(func(fd uintptr) {
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
			err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		}
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}
