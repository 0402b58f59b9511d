package qemu

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/byrevm/byre/hcs"
)

// An end is what is known about a QEMU that has ended.
type end struct {
	terminated bool     // we asked for it
	signal     string   // the signal that killed it, or ""
	crash      bool     // that signal is one that a fault raises
	code       int      // its exit code if it was not killed
	reason     string   // of its SHUTDOWN event, or ""
	misused    string   // a device of ours was, and QEMU killed therefore; how
	booted     bool     // a kernel of the document was running
	console    []string // the last lines of the guest
	stderr     []string // the last lines of QEMU
}

var (
	panicLine = regexp.MustCompile(`Kernel panic - not syncing: (.*)`)
	oomPanic  = regexp.MustCompile(`(?i)deadlocked on memory|out of memory`)
	initDied  = regexp.MustCompile(`Attempted to kill init|No working init found|Requested init .* failed`)
	// The kernel's word before an orderly reboot, at a level that is always
	// printed.
	rebootLine = regexp.MustCompile(`reboot: Restarting system`)
)

// exit tells the ends apart. The guest's console is believed: a guest that
// lies about its own end hurts nobody else.
func (e end) exit() *hcs.Exit {
	x := &hcs.Exit{Log: e.console}
	if len(e.stderr) > 0 {
		x.Log = append(append([]string(nil), e.console...), e.stderr...)
	}
	switch {
	case e.terminated && e.obeyed():
		x.Kind = hcs.ExitTerminated
	case e.misused != "":
		x.Kind, x.Detail = hcs.ExitVMMKilled, e.misused
	case e.signal != "" && e.crash:
		x.Kind, x.Detail = hcs.ExitVMMCrash, "QEMU: "+e.signal
	case e.signal != "":
		x.Kind, x.Detail = hcs.ExitVMMKilled, "QEMU: "+e.signal
	case e.code != 0:
		x.Kind, x.Detail = hcs.ExitVMMCrash, e.status()
	case e.reason == "guest-shutdown":
		x.Kind = hcs.ExitGuest
	case e.reason == "guest-reset" || e.reason == "guest-panic":
		x.Kind, x.Detail = e.reset()
	case e.reason == "host-signal":
		x.Kind, x.Detail = hcs.ExitVMMKilled, "QEMU: asked to stop by a signal"
	case e.reason == "host-qmp-quit":
		x.Kind = hcs.ExitTerminated
	default:
		x.Kind, x.Detail = hcs.ExitVMMCrash, "QEMU stopped without saying why"
		if e.reason != "" {
			x.Detail = "QEMU stopped: " + e.reason
		}
	}
	return x
}

// obeyed reports whether QEMU ended as we had asked, and not just before by
// itself.
func (e end) obeyed() bool {
	if e.signal != "" {
		return !e.crash
	}
	return e.code == 0 && (e.reason == "" || e.reason == "host-qmp-quit")
}

// status describes an exit by code, with the last words of QEMU.
func (e end) status() string {
	s := fmt.Sprintf("QEMU: exit status %d", e.code)
	if n := len(e.stderr); n > 0 {
		s += ": " + strings.TrimPrefix(e.stderr[n-1], "qemu-system-x86_64: ")
	}
	return s
}

// reset tells why a guest reset its machine: with panic=-1 a panic is a reset
// too.
func (e end) reset() (hcs.ExitKind, string) {
	for _, l := range e.console {
		m := panicLine.FindStringSubmatch(l)
		switch {
		case m == nil:
		case oomPanic.MatchString(m[1]):
			return hcs.ExitOOM, m[1]
		case initDied.MatchString(m[1]):
			return hcs.ExitAgent, m[1]
		default:
			return hcs.ExitPanic, m[1]
		}
	}
	if !e.booted {
		return hcs.ExitGuest, "reset"
	}
	for _, l := range e.console {
		if rebootLine.MatchString(l) {
			return hcs.ExitGuest, "reset"
		}
	}
	return hcs.ExitPanic, "the machine was reset without a word"
}
