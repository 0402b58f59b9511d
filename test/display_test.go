//go:build linux

package test

import (
	"path/filepath"
	"strings"
	"testing"
)

// A machine that boots without firmware, whose screen the agent's modules
// drive.
func TestOptionsScreen(t *testing.T) {
	ctx := begin(t)
	o := shellOptions(t)
	o.EnableGraphicsConsole = true
	vm := create(ctx, t, o)
	viewer := view(t, dialConsole(t, filepath.Join("/run/byre", o.ID, "screen.sock")))
	if err := vm.Start(ctx); err != nil {
		explain(t, err)
		t.FailNow()
	}
	script := "while ! busybox test -e /sys/class/graphics/fb0; do busybox usleep 100000; done; busybox cat /sys/class/graphics/fb0/name"
	if got := do(ctx, t, vm, script); !strings.Contains(got.stdout, "bochs") {
		t.Errorf("%+v", got)
	}
	viewer.write(t, "echo $((6*7)) >/run/typed\n")
	script = "while ! busybox test -s /run/typed; do busybox usleep 100000; done; busybox cat /run/typed"
	if got := do(ctx, t, vm, script); got.stdout != "42\n" {
		t.Errorf("what was typed: %+v", got)
	}
	if n := viewer.colours(t); n < 2 {
		t.Errorf("the screen has %d colours", n)
	}
}
