//go:build linux

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/layers"
	"github.com/byrevm/byre/uvm"
)

// The example of package uvm, step by step, in a VM that boots from a virtual
// disk with a console.
func TestAPI(t *testing.T) {
	ctx := begin(t)
	img := open(ctx, t, testImage(t))
	scratchFile, err := layers.NewScratch(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.RootFSFile, o.PreferredRootFSType = uvm.VhdFile, uvm.PreferredRootFSTypeVHD
	o.ConsolePipe = filepath.Join(t.TempDir(), "console")
	o.KernelBootOptions = "loglevel=7"
	vm := create(ctx, t, o)
	if v, caps := vm.Capabilities(); v != 0 || caps.SignalProcessSupported {
		t.Errorf("before the start: protocol %d, capabilities %+v", v, caps)
	}
	console := dialConsole(t, o.ConsolePipe)
	if err := vm.Start(ctx); err != nil {
		explain(t, err)
		t.FailNow()
	}
	awaitText(t, console, "Linux version")

	if err := vm.Start(ctx); !errors.Is(err, hcs.ErrInvalidState) {
		t.Errorf("starting again: got %v, want %v", err, hcs.ErrInvalidState)
	}
	if v, caps := vm.Capabilities(); v != 4 || !caps.SignalProcessSupported || !caps.DumpStacksSupported || !caps.DeleteContainerStateSupported {
		t.Errorf("protocol %d, capabilities %+v", v, caps)
	}
	if vm.ID() != o.ID || vm.OS() != "linux" || vm.IsOCI() || vm.ProcessorCount() != o.ProcessorCount {
		t.Errorf("id %q, os %q, OCI %v, %d processors", vm.ID(), vm.OS(), vm.IsOCI(), vm.ProcessorCount())
	}
	if a, b := vm.ContainerCounter(), vm.ContainerCounter(); a != 1 || b != 2 {
		t.Errorf("container counter %d, %d", a, b)
	}
	if a, b := vm.UVMMountCounter(), vm.UVMMountCounter(); a != 1 || b != 2 {
		t.Errorf("mount counter %d, %d", a, b)
	}
	if s, err := vm.DumpStacks(ctx); err != nil || !strings.Contains(s, "goroutine ") {
		t.Errorf("stacks %.80q, %v", s, err)
	}
	if err := vm.DeleteContainerState(ctx, "nobody"); err == nil {
		t.Error("the state of a container that is not there was deleted")
	}
	if got, err := hello(ctx, vm, img.Layers()[0], scratchFile); err != nil || !strings.HasPrefix(got, "Linux ") {
		t.Errorf("got %q, %v", got, err)
	}
	if err := vm.ExitError(); err == nil {
		t.Error("ExitError of a running VM is nil")
	}
}

// hello is what package uvm shows as its example.
func hello(ctx context.Context, vm *uvm.UtilityVM, layerFile, scratchFile string) (string, error) {
	const root = "/run/gcs/c/hello"
	layer, err := vm.AddVPMEM(ctx, layerFile)
	if err != nil {
		return "", err
	}
	scratch, err := vm.AddSCSI(ctx, scratchFile, root, false, uvm.VMAccessTypeIndividual)
	if err != nil {
		return "", err
	}
	if err := vm.CombineLayersLCOW(ctx, []string{layer}, scratch.UVMPath, root+"/rootfs"); err != nil {
		return "", err
	}
	c, err := vm.CreateContainer(ctx, "hello", &hcsschema.LinuxHostedSystem{
		SchemaVersion: hcsschema.SchemaV21(),
		OciBundlePath: root,
		OciSpecification: &specs.Spec{
			Version: "1.0.2",
			Process: &specs.Process{Args: []string{"uname", "-snr"}, Env: []string{"PATH=/bin"}, Cwd: "/"},
			Root:    &specs.Root{Path: root + "/rootfs"},
			Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
			Linux:   &specs.Linux{},
		},
	})
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.Start(ctx); err != nil {
		return "", err
	}
	var stdout bytes.Buffer
	init := &cow.Cmd{Host: c, Stdout: &stdout}
	if err := init.Run(ctx); err != nil {
		return "", err
	}
	if err := c.Wait(); err != nil {
		return "", err
	}
	if err := vm.DeleteContainerState(ctx, "hello"); err != nil {
		return "", err
	}
	return stdout.String(), errors.Join(vm.RemoveCombinedLayers(ctx, root+"/rootfs"), scratch.Release(ctx), vm.RemoveVPMEM(ctx, layerFile))
}

// dialConsole connects to the console, which nobody else on the host can.
func dialConsole(t *testing.T, path string) net.Conn {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Type() != os.ModeSocket || fi.Mode().Perm() != 0o600 {
		t.Errorf("the console is %v, want a socket with mode 0600", fi.Mode())
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func awaitText(t *testing.T, c net.Conn, want string) {
	t.Helper()
	var all []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(all, []byte(want)) {
		n, err := c.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			t.Errorf("the console ended with %v and without %q: %q", err, want, all)
			return
		}
	}
}

// What never ran is given back all the same.
func TestNotStarted(t *testing.T) {
	ctx := begin(t)
	vm := create(ctx, t, options(t))
	if _, err := vm.CreateContainer(ctx, "c", &hcsschema.LinuxHostedSystem{}); !errors.Is(err, hcs.ErrInvalidState) {
		t.Errorf("a container before the start: got %v, want %v", err, hcs.ErrInvalidState)
	}
	if err := vm.Close(); err != nil {
		t.Error(err)
	}
	if err := vm.Start(ctx); !errors.Is(err, hcs.ErrStopped) {
		t.Errorf("starting after Close: got %v, want %v", err, hcs.ErrStopped)
	}
	other := create(ctx, t, options(t))
	if err := other.Terminate(ctx); err != nil {
		t.Error(err)
	}
	if err := other.Wait(); err != nil {
		t.Errorf("waiting: %v", err)
	}
	if err := other.Start(ctx); !errors.Is(err, hcs.ErrStopped) {
		t.Errorf("starting after Terminate: got %v, want %v", err, hcs.ErrStopped)
	}
	if err := other.ExitError(); err != nil {
		t.Errorf("ExitError: %v", err)
	}
}

// The ends of a VM, and what is told of them.
func TestEnds(t *testing.T) {
	ctx := begin(t)
	img := open(ctx, t, testImage(t))
	for _, x := range []struct {
		name string
		kind hcs.ExitKind // that ExitError has; an orderly end has none
		end  func(context.Context, *testing.T, *uvm.UtilityVM)
	}{
		{"guest turns itself off", hcs.ExitGuest, sysrq(img, "o")},
		{"terminated", hcs.ExitTerminated, func(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
			if err := vm.Terminate(ctx); err != nil {
				t.Error(err)
			}
		}},
		{"monitor killed", hcs.ExitVMMKilled, func(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
			if err := syscall.Kill(monitor(t, vm.ID()), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}},
		{"kernel panics", hcs.ExitPanic, sysrq(img, "c")},
	} {
		step(t, x.name, func(ctx context.Context, t *testing.T) {
			vm := boot(ctx, t, options(t))
			x.end(ctx, t, vm)
			if err := vm.Wait(); err != nil {
				t.Errorf("waiting: %v", err)
			}
			err := vm.ExitError()
			var exit *hcs.Exit
			switch orderly := x.kind == hcs.ExitGuest || x.kind == hcs.ExitTerminated; {
			case orderly && err != nil:
				t.Errorf("ExitError: got %v, want nil", err)
			case !orderly && (!errors.As(err, &exit) || exit.Kind != x.kind):
				t.Errorf("ExitError: got %v, want %v", err, x.kind)
			}
			if exit != nil && x.kind == hcs.ExitPanic && !strings.Contains(strings.Join(exit.Log, "\n"), "Kernel panic") {
				t.Errorf("the panic is not in the log: %q", exit.Log)
			}
			if _, err := vm.CreateContainer(ctx, "late", &hcsschema.LinuxHostedSystem{}); !errors.Is(err, hcs.ErrStopped) {
				t.Errorf("a container after the end: got %v, want %v", err, hcs.ErrStopped)
			}
			if err := vm.Terminate(ctx); err != nil {
				t.Errorf("terminating what has ended: %v", err)
			}
		})
	}
}

// sysrq has the guest's kernel do something, from a container that is allowed
// to, and checks that the container's end is not taken for its command's.
func sysrq(img *container.Image, key string) func(context.Context, *testing.T, *uvm.UtilityVM) {
	return func(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
		spec, err := container.NewSpec(img, container.SpecOptions{
			CapAdd: []string{"ALL"}, Args: []string{"sh", "-c", fmt.Sprintf("echo %s >/proc/sysrq-trigger; exec sleep 3600", key)},
		})
		if err != nil {
			t.Fatal(err)
		}
		spec.Linux.ReadonlyPaths, spec.Linux.MaskedPaths = nil, nil
		c, err := container.Create(ctx, vm, container.Config{Spec: spec, Layers: img.Layers()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Delete(context.WithoutCancel(ctx)); err != nil {
				t.Errorf("deleting a container whose VM has ended: %v", err)
			}
		})
		var exit *cow.ExitError
		if err := c.Init().Run(ctx); err == nil || errors.As(err, &exit) {
			t.Errorf("the process ended with %v, but its VM has ended", err)
		}
	}
}

// monitor returns the process of a VM.
func monitor(t *testing.T, id string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.HasPrefix(filepath.Base(strings.SplitN(string(b), "\x00", 2)[0]), "qemu-system") && bytes.Contains(b, []byte(id)) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("there is no monitor of %s", id)
	return 0
}
