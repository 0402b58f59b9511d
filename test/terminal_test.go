//go:build linux

package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A terminal of byre's own becomes that of the command, and is as it was
// afterwards.
func TestRunTerminal(t *testing.T) {
	ctx := begin(t)
	master, slave := terminal(t)
	resize(t, master, 80, 24)
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	cmd := byre(ctx, t, "run", "--rm", "-it", testImage(t), "sh", "-c",
		`echo at first $(stty size) $TERM; read a; while [ "$(stty size)" = "24 80" ]; do sleep 0.1; done; echo then $(stty size); read b; echo read $a $b; exit 21`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var out screen
	go out.read(master)
	out.await(ctx, t, "at first 24 80 xterm\r\n")
	resize(t, master, 100, 30)
	master.WriteString("one\r")
	out.await(ctx, t, "then 30 100\r\n")
	master.WriteString("two\r")
	out.await(ctx, t, "read one two\r\n")
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 21 {
		t.Errorf("exit code %d, want 21; %q", code, out.String())
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Errorf("the terminal was %+v and is %+v", before, after)
	}
}

// What byre is sent the command gets, and the exit code is the command's.
func TestRunSignals(t *testing.T) {
	ctx := begin(t)
	start := func(t *testing.T, script string, flags ...string) (*exec.Cmd, *screen) {
		t.Helper()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		args := append([]string{"run", "--rm"}, flags...)
		cmd := byre(ctx, t, append(args, testImage(t), "sh", "-c", script)...)
		cmd.Stdout, cmd.Stderr = w, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		t.Cleanup(func() { r.Close() })
		out := new(screen)
		go out.read(r)
		out.await(ctx, t, "ready\n")
		return cmd, out
	}
	const loop = "echo ready; while :; do sleep 0.1; done"
	t.Run("handled", func(t *testing.T) {
		cmd, out := start(t, `trap "echo usr1" USR1; trap "echo bye; exit 17" TERM; `+loop)
		cmd.Process.Signal(syscall.SIGUSR1)
		out.await(ctx, t, "usr1\n")
		cmd.Process.Signal(syscall.SIGTERM)
		out.await(ctx, t, "bye\n")
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 17 {
			t.Errorf("exit code %d, want 17", code)
		}
	})
	t.Run("stop signal", func(t *testing.T) {
		cmd, _ := start(t, `trap "exit 18" USR2; `+loop, "--stop-signal", "USR2")
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 18 {
			t.Errorf("exit code %d, want 18", code)
		}
	})
	t.Run("three times", func(t *testing.T) {
		cmd, out := start(t, `n=0; trap 'n=$((n+1)); echo ignored $n' INT; `+loop)
		for i := range 2 {
			cmd.Process.Signal(syscall.SIGINT)
			out.await(ctx, t, fmt.Sprintf("ignored %d\n", i+1))
		}
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 130 {
			t.Errorf("exit code %d, want 130", code)
		}
	})
}

// terminal makes a pseudo terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func resize(t *testing.T, f *os.File, width, height uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}); err != nil {
		t.Fatal(err)
	}
}

// A screen keeps what is read from a file.
type screen struct{ lockedBuffer }

func (s *screen) read(f *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		s.Write(buf[:n])
		if err != nil {
			return
		}
	}
}

// await returns when the text is there.
func (s *screen) await(ctx context.Context, t *testing.T, want string) {
	t.Helper()
	until(ctx, t, fmt.Sprintf("%q", want), patience, func() bool { return strings.Contains(s.String(), want) })
}
