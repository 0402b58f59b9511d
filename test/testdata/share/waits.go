//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// soon is a time in which a wait that was interrupted must have ended, and that
// is much shorter than any lock here is held.
const soon = 3 * time.Second

func init() { runtime.LockOSThread() } // main is the first thread

// keep takes both locks of a file until the input ends.
func keep(p string) {
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	must("open", err)
	defer f.Close()
	must("flock", unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	if !by9P(p) { // which does not tell the two apart
		must("fcntl", unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
	}
	fmt.Println("held")
	io.Copy(io.Discard, os.Stdin)
}

// block waits for a lock.
func block(p string) {
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	must("open", err)
	defer f.Close()
	fmt.Println("waiting")
	must("flock", unix.Flock(int(f.Fd()), unix.LOCK_EX))
	fmt.Println("got it")
}

// ways are those to wait for a lock that somebody else has.
var ways = map[string]func(fd int) error{
	"flock": func(fd int) error { return unix.Flock(fd, unix.LOCK_EX) },
	"fcntl": func(fd int) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLKW, &unix.Flock_t{Type: unix.F_WRLCK})
	},
}

// interrupts lets a signal end a system call, which Go has begin again.
func interrupts(sig unix.Signal) {
	var act struct { // as the kernel has it
		handler, flags, restorer, mask uint64
	}
	call := func(set, get unsafe.Pointer) {
		if _, _, err := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(set), uintptr(get), 8, 0, 0); err != 0 {
			must("sigaction", err)
		}
	}
	call(nil, unsafe.Pointer(&act))
	const restart = 0x10000000
	act.flags &^= restart
	call(unsafe.Pointer(&act), nil)
}

// interrupted waits for locks until a timer ends that, as flock -w does.
func interrupted(p string) {
	rang := make(chan os.Signal, 1)
	signal.Notify(rang, unix.SIGALRM)
	interrupts(unix.SIGALRM)
	for name, wait := range ways {
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		must("open", err)
		began := time.Now()
		_, err = unix.Setitimer(unix.ITIMER_REAL, unix.Itimerval{Value: unix.NsecToTimeval(int64(time.Second))})
		must("setitimer", err)
		err = wait(int(f.Fd()))
		took := time.Since(began)
		<-rang
		f.Close()
		if want(name+" until a signal", err, unix.EINTR); took < time.Second/2 || took > soon {
			wrong("%s with a timer of a second took %v", name, took)
		}
	}
}

// killed kills a process that waits.
func killed(p string) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		var out bytes.Buffer
		cmd := exec.Command("/proc/self/exe", p, "block")
		cmd.Stdout = &out
		must("start", cmd.Start())
		asleep(cmd.Process.Pid)
		began := time.Now()
		must("kill", unix.Kill(cmd.Process.Pid, sig))
		cmd.Wait()
		ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if took := time.Since(began); took > soon || ws.Signal() != sig || out.String() != "waiting\n" {
			wrong("a process that waited and got signal %d ended after %v: %v, %q", sig, took, cmd.ProcessState, out.String())
		}
	}
}

// asleep returns when a thread waits for a lock.
func asleep(thread int) {
	call := fmt.Appendf(nil, "%d ", unix.SYS_FLOCK)
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(5 * time.Millisecond) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", thread)); bytes.HasPrefix(b, call) {
			return
		}
	}
	wrong("thread %d does not wait", thread)
}

// aside waits in a thread that is not the first one: signals of the process are
// the first one's, and the wait goes on; one for the thread ends it.
func aside(p string) {
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	must("open", err)
	defer f.Close()
	came := make(chan os.Signal, 1)
	signal.Notify(came, unix.SIGUSR1)
	interrupts(unix.SIGUSR1)
	thread, done := make(chan int), make(chan error)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		done <- unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}()
	id := <-thread
	asleep(id)
	for range 50 {
		must("kill", unix.Kill(os.Getpid(), unix.SIGUSR1))
		select {
		case <-came:
		case err := <-done:
			wrong("a signal of another thread ended a wait: %v", err)
			return
		}
	}
	must("tgkill", unix.Tgkill(os.Getpid(), id, unix.SIGUSR1))
	select {
	case err := <-done:
		want("flock until a signal of its thread", err, unix.EINTR)
	case <-time.After(soon):
		wrong("a signal of its thread did not end a wait")
	}
}
