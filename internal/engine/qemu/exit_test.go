package qemu

import (
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
)

func TestExit(t *testing.T) {
	panicked := func(why string) []string {
		return []string{"[ 1.0] something", "[ 2.0] Kernel panic - not syncing: " + why, "[ 2.1] CPU: 0 PID: 1"}
	}
	for name, c := range map[string]struct {
		end    end
		kind   hcs.ExitKind
		detail string
	}{
		"power off":          {end{reason: "guest-shutdown", booted: true}, hcs.ExitGuest, ""},
		"reboot":             {end{reason: "guest-reset", booted: true, console: []string{"[ 3.1] reboot: Restarting system"}}, hcs.ExitGuest, "reset"},
		"panic":              {end{reason: "guest-reset", booted: true, console: panicked("sysrq triggered crash")}, hcs.ExitPanic, "sysrq"},
		"init dies":          {end{reason: "guest-reset", booted: true, console: panicked("Attempted to kill init! exitcode=0x00000b")}, hcs.ExitAgent, "init"},
		"no init":            {end{reason: "guest-reset", booted: true, console: panicked("No working init found.")}, hcs.ExitAgent, "init"},
		"out of memory":      {end{reason: "guest-reset", booted: true, console: panicked("System is deadlocked on memory")}, hcs.ExitOOM, "memory"},
		"panic on oom":       {end{reason: "guest-reset", booted: true, console: panicked("Out of memory: compulsory panic_on_oom is enabled")}, hcs.ExitOOM, "memory"},
		"triple fault":       {end{reason: "guest-reset", booted: true, console: []string{"GUEST-UP"}}, hcs.ExitPanic, "without a word"},
		"reset, no kernel":   {end{reason: "guest-reset"}, hcs.ExitGuest, "reset"},
		"terminated":         {end{terminated: true, signal: "killed"}, hcs.ExitTerminated, ""},
		"terminated by quit": {end{terminated: true, reason: "host-qmp-quit"}, hcs.ExitTerminated, ""},
		"ended just before":  {end{terminated: true, reason: "guest-shutdown", booted: true}, hcs.ExitGuest, ""},
		"crashed before":     {end{terminated: true, signal: "segmentation fault", crash: true}, hcs.ExitVMMCrash, "segmentation"},
		"killed":             {end{signal: "killed"}, hcs.ExitVMMKilled, "killed"},
		"misused":            {end{signal: "killed", misused: "a device ended"}, hcs.ExitVMMKilled, "a device ended"},
		"asked to stop":      {end{reason: "host-signal"}, hcs.ExitVMMKilled, "signal"},
		"crash":              {end{signal: "aborted", crash: true}, hcs.ExitVMMCrash, "aborted"},
		"seccomp":            {end{signal: "bad system call", crash: true}, hcs.ExitVMMCrash, "system call"},
		"refuses":            {end{code: 1, stderr: []string{"qemu-system-x86_64: no room"}}, hcs.ExitVMMCrash, "exit status 1: no room"},
		"no reason":          {end{}, hcs.ExitVMMCrash, "without saying why"},
		"I/O error":          {end{reason: "host-error"}, hcs.ExitVMMCrash, "host-error"},
	} {
		t.Run(name, func(t *testing.T) {
			x := c.end.exit()
			if x.Kind != c.kind || !strings.Contains(x.Detail, c.detail) {
				t.Errorf("got %v, %q; want %v, %q", x.Kind, x.Detail, c.kind, c.detail)
			}
			if got, want := len(x.Log), len(c.end.console)+len(c.end.stderr); got != want {
				t.Errorf("%d lines kept, want %d", got, want)
			}
		})
	}
}

func TestLines(t *testing.T) {
	var l lines
	l.Write([]byte("one\r\ntw"))
	l.Write([]byte("o\x1b[31mred\x07\n\n"))
	l.Write([]byte(strings.Repeat("x", 3*maxLineLength) + "\nlast"))
	got := l.all()
	want := []string{"one", "two.[31mred.", strings.Repeat("x", maxLineLength), "last"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q", got)
	}
	for range 3 * maxLines {
		l.Write([]byte("more\n"))
	}
	if got := l.all(); len(got) != maxLines || got[0] != "more" {
		t.Errorf("%d lines kept, first %q", len(got), got[0])
	}
}
