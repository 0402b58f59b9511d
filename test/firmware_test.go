//go:build linux

package test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/layers"
	"github.com/byrevm/byre/uvm"
)

// A machine that boots by UEFI, with a screen and a keyboard.
func TestOptionsFirmware(t *testing.T) {
	ctx := begin(t)
	o := shellOptions(t)
	o.KernelDirect, o.KernelFile = false, uvm.KernelFile
	if err := os.Symlink(filepath.Join(bootFiles(t), o.KernelFile), filepath.Join(o.BootFilesPath, o.KernelFile)); err != nil {
		t.Fatal(err)
	}
	o.EnableGraphicsConsole = true
	vm := create(ctx, t, o)
	screen := filepath.Join("/run/byre", o.ID, "screen.sock")
	if os.Geteuid() != 0 {
		screen = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "byre", o.ID, "screen.sock")
	}
	viewer := view(t, dialConsole(t, screen)) // also checks its mode
	if err := vm.Start(ctx); err != nil {
		explain(t, err)
		t.FailNow()
	}
	got := do(ctx, t, vm, "busybox test -d /sys/firmware/efi && busybox cat /proc/cmdline && busybox cat /sys/class/graphics/fb*/name")
	if got.code != 0 || !strings.Contains(got.stdout, "console=tty ") {
		t.Errorf("%+v", got)
	}
	t.Logf("%s", got.stdout)
	scratch, err := layers.NewScratch(t.TempDir(), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vm.AddSCSI(ctx, scratch, "/run/mounts/disk", false, uvm.VMAccessTypeIndividual); err != nil {
		t.Errorf("a disk: %v", err)
	}
	if n := viewer.colours(t); n < 2 {
		t.Errorf("the screen has %d colours", n)
	}
	viewer.write(t, "echo $((6*7)) >/run/typed\n")
	script := "while ! busybox test -s /run/typed; do busybox usleep 100000; done; busybox cat /run/typed"
	if got := do(ctx, t, vm, script); got.stdout != "42\n" {
		t.Errorf("what was typed: %+v", got)
	}
	if err := vm.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(screen); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the screen of a VM that was closed: %v", err)
	}
}

// A machine without an agent: what it runs is the caller's, and so is its
// output.
func TestOptionsNoAgent(t *testing.T) {
	ctx := begin(t)
	o := shellOptions(t)
	log := &clerk{ended: make(chan struct{})}
	o.UseGuestConnection = false
	o.ForwardStdout, o.ForwardStderr, o.OutputHandler = true, false, log.read
	o.ProcessorCount = 1
	o.ExecCommandLine = "/bin/busybox nproc"
	vm := boot(ctx, t, o)
	if v, _ := vm.Capabilities(); v != 0 {
		t.Errorf("protocol %d of a VM without an agent", v)
	}
	if _, err := vm.CreateContainer(ctx, "c", &hcsschema.LinuxHostedSystem{}); err == nil {
		t.Error("a container in a VM without an agent")
	}
	if err := vm.Wait(); err != nil {
		t.Error(err)
	}
	<-log.ended
	if got := log.text.String(); got != "1\n" {
		t.Errorf("output %q", got)
	}
}

// The ends of a VM that TestEnds does not have.
func TestOtherEnds(t *testing.T) {
	begin(t)
	for _, x := range []struct {
		name string
		edit func(*testing.T, *uvm.OptionsLCOW)
		kind hcs.ExitKind
		says string
		end  func(context.Context, *testing.T, *uvm.UtilityVM)
	}{
		{"panic with a console", func(t *testing.T, o *uvm.OptionsLCOW) {
			o.ConsolePipe = filepath.Join(t.TempDir(), "console")
		}, hcs.ExitPanic, "sysrq", func(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
			spawn(ctx, t, vm, "echo c >/proc/sysrq-trigger")
		}},
		{"out of memory", func(_ *testing.T, o *uvm.OptionsLCOW) {
			o.KernelBootOptions = "sysctl.vm.panic_on_oom=2"
		}, hcs.ExitOOM, "ut of memory", func(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
			spawn(ctx, t, vm, "busybox mount -t tmpfs -o size=2g none /mnt; busybox dd if=/dev/zero of=/mnt/f bs=1M")
		}},
		{"monitor crashed", func(*testing.T, *uvm.OptionsLCOW) {}, hcs.ExitVMMCrash, "QEMU", func(_ context.Context, t *testing.T, vm *uvm.UtilityVM) {
			if err := syscall.Kill(monitor(t, vm.ID()), syscall.SIGSEGV); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		step(t, x.name, func(ctx context.Context, t *testing.T) {
			o := shellOptions(t)
			o.MemorySizeInMB = 256
			x.edit(t, o)
			vm := boot(ctx, t, o)
			x.end(ctx, t, vm)
			if err := vm.Wait(); err != nil {
				t.Errorf("waiting: %v", err)
			}
			var exit *hcs.Exit
			if err := vm.ExitError(); !errors.As(err, &exit) || exit.Kind != x.kind || !strings.Contains(err.Error(), x.says) {
				t.Errorf("got %v, want %v with %q", err, x.kind, x.says)
			}
		})
	}
}

// spawn starts a script in a VM that will not tell how it ends.
func spawn(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, script string) {
	t.Helper()
	cmd := cow.Command(vm, "sh", "-c", script)
	if err := cmd.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Wait() })
}
