//go:build linux

// Package signals tells whether a thread has a signal that ends what it waits
// for, where the thread itself cannot be woken by it: in a request of virtio-fs.
//
//	if signals.Pending(thread) {
//		// let its system call end
//	}
package signals

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// A set has bit n-1 for signal n.
type set uint64

func of(sigs ...unix.Signal) (s set) {
	for _, g := range sigs {
		s |= 1 << (g - 1)
	}
	return s
}

// elsewhere are the signals that the kernel sends to a process by way of a
// thread that need not be the first one: the one that made the child, or that
// used the processor.
var elsewhere = of(unix.SIGCHLD, unix.SIGXCPU)

// Pending tells whether the thread has a signal for which the kernel has marked
// it, so that a system call of its that ends now with "interrupted" does what
// it does wherever it could be interrupted: run the handler, begin again, or let
// the program die. To a thread that is not marked the call would return an
// error that no program knows (512, ERESTARTSYS).
//
// A signal for the thread itself has marked it, unless it is blocked. One for
// the process marks one thread only, see complete_signal in the kernel's
// kernel/signal.c: the first thread if that has not blocked it, else any. So it
// counts if that can only be this one. Signals that are ignored never wait.
func Pending(thread uint32) bool { return pending("/proc", thread) }

func pending(proc string, thread uint32) bool {
	dir := proc + "/" + strconv.FormatUint(uint64(thread), 10)
	t, err := read(dir + "/status")
	if err != nil {
		return false // it has ended, so it does not wait
	}
	if t.own&^t.blocked != 0 {
		return true
	}
	shared := t.shared &^ t.blocked
	switch {
	case shared == 0:
		return false
	case t.threads == 1, shared&of(unix.SIGKILL) != 0:
		return true
	case t.process == thread && shared&^elsewhere != 0:
		return true
	}
	return blockedByOthers(dir+"/task", thread, shared)
}

// blockedByOthers tells whether there is a signal in s that all other threads of
// the process have blocked.
func blockedByOthers(tasks string, thread uint32, s set) bool {
	others, err := os.ReadDir(tasks)
	if err != nil {
		return false
	}
	for _, o := range others {
		if o.Name() == strconv.FormatUint(uint64(thread), 10) {
			continue
		}
		// One that has ended since takes no signals, as one that is ending.
		if t, err := read(tasks + "/" + o.Name() + "/status"); err == nil && !t.ended {
			s &= t.blocked
		}
		if s == 0 {
			return false
		}
	}
	return true
}

// A status is what Pending needs of a thread's file in /proc; see proc(5).
type status struct {
	process, threads     uint32
	ended                bool
	own, shared, blocked set
}

func read(file string) (t status, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return t, err
	}
	var found int
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		key, value, _ := bytes.Cut(s.Bytes(), []byte(":"))
		value = bytes.TrimSpace(value)
		number := func(base int) uint64 {
			n, e := strconv.ParseUint(string(value), base, 64)
			if e != nil {
				err = e
			}
			found++
			return n
		}
		switch string(key) {
		case "State": // "Z (zombie)"
			t.ended = len(value) > 0 && (value[0] == 'Z' || value[0] == 'X')
		case "Tgid":
			t.process = uint32(number(10))
		case "Threads":
			t.threads = uint32(number(10))
		case "SigPnd":
			t.own = set(number(16))
		case "ShdPnd":
			t.shared = set(number(16))
		case "SigBlk":
			t.blocked = set(number(16))
		}
	}
	if err == nil && found != 5 {
		err = fmt.Errorf("%s has %d of 5 fields", file, found)
	}
	return t, err
}
