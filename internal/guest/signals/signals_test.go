//go:build linux

package signals

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The test binary is also a process with several threads.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "threads" {
		threads()
	}
	os.Exit(m.Run())
}

func mask(how int, s unix.Signal) error {
	var set unix.Sigset_t
	set.Val[0] = uint64(of(s))
	return unix.PthreadSigmask(how, &set, nil)
}

// threads prints the id of a thread that takes SIGUSR1, in a process whose other
// threads have the mask that they were started with. The first thread, which
// prints, does nothing else: while Go's runtime starts a thread, the one that
// does it has other signals blocked.
func threads() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGUSR2, unix.SIGCHLD)
	id := make(chan string)
	go func() {
		runtime.LockOSThread()
		if err := mask(unix.SIG_UNBLOCK, unix.SIGUSR1); err != nil {
			panic(err)
		}
		id <- fmt.Sprintln(unix.Gettid())
		select {}
	}()
	line := []byte(<-id)
	unix.RawSyscall(unix.SYS_WRITE, 1, uintptr(unsafe.Pointer(&line[0])), uintptr(len(line)))
	for {
		unix.RawSyscall(unix.SYS_PPOLL, 0, 0, 0)
	}
}

func init() { runtime.LockOSThread() } // the first goroutine stays on the first thread

// start starts a process with SIGUSR1 blocked, or not, and stops it: what is
// sent to it then stays pending. It returns the process and the thread that it
// prints.
func start(t *testing.T, blocked bool, name string, args ...string) (process, thread uint32) {
	t.Helper()
	cmd := exec.Command(name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	if blocked {
		err = mask(unix.SIG_BLOCK, unix.SIGUSR1)
	}
	if err == nil {
		err = cmd.Start()
	}
	if blocked {
		mask(unix.SIG_UNBLOCK, unix.SIGUSR1)
	}
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, &thread)
	}
	if err == nil {
		err = cmd.Process.Signal(unix.SIGSTOP)
	}
	if err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &ws, unix.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatalf("it did not stop: %v, %v", ws, err)
	}
	return uint32(cmd.Process.Pid), thread
}

func TestPending(t *testing.T) {
	shell := []string{"sh", "-c", "echo $$; exec sleep 1000"}
	program := []string{os.Args[0], "threads"}
	const none, process, thread = 0, 1, 2
	for _, c := range []struct {
		name          string
		args          []string
		blocked       bool
		sig           unix.Signal
		to            int
		first, second bool // of the process's first thread, and of the one that it prints
	}{
		{"one thread, nothing", shell, false, 0, none, false, false},
		{"one thread", shell, false, unix.SIGTERM, process, true, true},
		{"one thread, by itself", shell, false, unix.SIGTERM, thread, true, true},
		{"one thread, ignored", shell, false, unix.SIGWINCH, process, false, false},
		{"one thread, blocked", shell, true, unix.SIGUSR1, process, false, false},
		{"one thread, blocked by itself", shell, true, unix.SIGUSR1, thread, false, false},
		{"one thread, real-time", shell, false, 64, process, true, true},
		{"threads, nothing", program, false, 0, none, false, false},
		{"threads", program, false, unix.SIGUSR2, process, true, false},
		{"threads, by itself", program, false, unix.SIGUSR2, thread, false, true},
		{"threads, all others block it", program, true, unix.SIGUSR1, process, false, true},
		{"threads, all others block it, by itself", program, true, unix.SIGUSR1, thread, false, true},
		{"threads, one of many", program, false, unix.SIGUSR1, process, true, false},
		{"threads, of a child", program, false, unix.SIGCHLD, process, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, th := start(t, c.blocked, c.args[0], c.args[1:]...)
			var err error
			switch c.to {
			case process:
				err = unix.Kill(int(p), c.sig)
			case thread:
				err = unix.Tgkill(int(p), int(th), c.sig)
			}
			if err != nil {
				t.Fatal(err)
			}
			if first, second := Pending(p), Pending(th); first != c.first || second != c.second {
				t.Errorf("got %t and %t, want %t and %t", first, second, c.first, c.second)
			}
		})
	}
	if Pending(1 << 30) {
		t.Error("a thread that there is not has a signal")
	}
}

func TestRead(t *testing.T) {
	good := "Name:\tx: y\nState:\tZ (zombie)\nTgid:\t7\nThreads:\t2\nSigQ:\t1/2\nSigPnd:\t8000000000000001\nShdPnd:\t0\nSigBlk:\tff\n"
	for text, want := range map[string]status{
		good:                               {process: 7, threads: 2, ended: true, own: 1<<63 | 1, blocked: 0xff},
		strings.Replace(good, "Z", "S", 1): {process: 7, threads: 2, own: 1<<63 | 1, blocked: 0xff},
		strings.Replace(good, "ShdPnd", "Other", 1): {},
		strings.Replace(good, "\t0\n", "\tno\n", 1): {},
		"": {},
	} {
		file := t.TempDir() + "/status"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := read(file)
		if want == (status{}) {
			if err == nil {
				t.Errorf("%q is accepted: %+v", text, got)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
	}
}
