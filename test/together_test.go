//go:build linux

package test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/uvm"
)

// Options that go together: firmware, a virtual disk as root, both consoles,
// memory that is taken at once, and one processor.
func TestOptionsTogether(t *testing.T) {
	ctx := begin(t)
	o := options(t)
	o.KernelDirect, o.KernelFile = false, uvm.KernelFile
	o.RootFSFile, o.PreferredRootFSType = uvm.VhdFile, uvm.PreferredRootFSTypeVHD
	o.ConsolePipe, o.EnableGraphicsConsole = filepath.Join(t.TempDir(), "console"), true
	o.AllowOvercommit, o.MemorySizeInMB, o.ProcessorCount = false, 300, 1
	o.VPMemDeviceCount, o.SCSIControllerCount = 1, 0
	vm := create(ctx, t, o)
	pid := vmm(t, vm.ID())
	if got := guestMemory(t, pid); got != 300<<20 {
		t.Errorf("%d MiB of 300 are there before the start", got>>20)
	}
	console := dialConsole(t, o.ConsolePipe)
	viewer := view(t, dialConsole(t, filepath.Join("/run/byre", o.ID, "screen.sock")))
	if err := vm.Start(ctx); err != nil {
		explain(t, err)
		t.FailNow()
	}
	step(t, "command line", func(ctx context.Context, t *testing.T) {
		line := kernelLine(ctx, t, vm)
		for _, want := range []string{"root=/dev/pmem0 ", " console=ttyS0,115200 ", " console=tty ", " nr_cpus=1 "} {
			if !strings.Contains(line, want) {
				t.Errorf("no %q in %s", want, line)
			}
		}
	})
	step(t, "statistics", func(ctx context.Context, t *testing.T) { testStatistics(ctx, t, vm, 300<<20) })
	step(t, "consoles", func(_ context.Context, t *testing.T) {
		console.SetDeadline(time.Now().Add(time.Minute))
		awaitText(t, console, "Command line: root=/dev/pmem0 ")
		if n := viewer.colours(t); n < 2 {
			t.Errorf("the screen has %d colours", n)
		}
	})
	step(t, "no room", func(ctx context.Context, t *testing.T) {
		disk := save(t, filepath.Join(t.TempDir(), "disk"), make([]byte, 2<<20))
		if _, err := vm.AddSCSI(ctx, disk, "", true, uvm.VMAccessTypeIndividual); err != uvm.ErrNoSCSIControllers {
			t.Errorf("a disk: got %v, want %v", err, uvm.ErrNoSCSIControllers)
		}
		if _, err := vm.AddVPMEM(ctx, disk); err != uvm.ErrNoAvailableLocation {
			t.Errorf("a layer: got %v, want %v", err, uvm.ErrNoAvailableLocation)
		}
	})
}
