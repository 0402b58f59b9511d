package wine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/test/wine/standin"
	"github.com/byrevm/byre/uvm"
)

// A network has one namespace with one endpoint.
type network struct{ hns.Network }

func (network) Namespace(_ context.Context, id string) (*hns.HostComputeNamespace, error) {
	return &hns.HostComputeNamespace{Id: id, Resources: []hns.NamespaceResource{hns.NewEndpointResource("ep")}}, nil
}

func (network) Endpoint(_ context.Context, id string) (*hns.HNSEndpoint, error) {
	return &hns.HNSEndpoint{Id: id}, nil
}

// A house is a VM on the bench, and the files for it.
type house struct {
	*uvm.UtilityVM
	t     *part
	bench *standin.Bench
	mem   *hcstest.Engine
	guest *hcstest.Guest
	kind
	dir string // of files
	own string // folder for the VM
}

func (h *house) path(name string) string { return filepath.Join(h.dir, filepath.FromSlash(name)) }

// files makes what the VMs and containers of all houses use; the first user of
// a scratch folder makes its disk.
func files(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, size := range map[string]int{
		"boot/kernel": 1, "boot/initrd.img": 1,
		"l1/layer.vhd": 4096, "large/layer.vhd": 9000, "scratch/sandbox.vhdx": 4096, "gpu.vhd": 512,
		"w1/Files/x": 1, "w2/Files/x": 1, "base/UtilityVM/SystemTemplate.vhdx": 4096, "base/UtilityVM/Files/x": 1,
		"dir/file": 1, "dir/more": 1, "disk.vhdx": 512,
	} {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, make([]byte, size), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A kind of VM.
type kind struct{ windows, external bool }

func (k kind) String() string {
	os, connection := "linux", "internal"
	if k.windows {
		os = "windows"
	}
	if k.external {
		connection = "external"
	}
	return os + " " + connection
}

func (h *house) create() (err error) {
	common := &uvm.Options{
		ID: "vm", AllowOvercommit: true, ProcessorCount: 2, ExternalGuestConnection: h.external,
		Engine: h.bench.Engine(h.mem.Host()), Network: network{},
	}
	if h.windows {
		h.UtilityVM, err = uvm.CreateWCOW(h.t.Context(), &uvm.OptionsWCOW{
			Options: common, LayerFolders: []string{h.path("base"), h.own},
		})
	} else {
		h.UtilityVM, err = uvm.CreateLCOW(h.t.Context(), &uvm.OptionsLCOW{
			Options: common, BootFilesPath: h.path("boot"), KernelFile: "kernel", RootFSFile: "initrd.img", KernelDirect: true,
			SCSIControllerCount: 1, UseGuestConnection: true, ExecCommandLine: "x", VPMemDeviceCount: 2, VPMemSizeBytes: 8192, VPCIEnabled: true,
		})
	}
	return err
}

func (h *house) spec() *specs.Spec {
	netns := &specs.WindowsNetwork{NetworkNamespace: "ns"}
	if h.OS() == "windows" {
		return &specs.Spec{
			Process: &specs.Process{Args: []string{"cmd"}, Cwd: `C:\`},
			Root:    &specs.Root{},
			Mounts: []specs.Mount{
				{Source: h.path("dir"), Destination: `C:\ro`, Options: []string{"ro"}},
				{Source: h.path("dir/file"), Destination: `C:\file`},
				{Source: h.path("dir/more"), Destination: `C:\more`},
				{Source: `\\.\pipe\out`, Destination: `\\.\pipe\in`},
				{Type: "virtual-disk", Source: h.path("disk.vhdx"), Destination: `C:\disk`},
			},
			Windows: &specs.Windows{LayerFolders: []string{h.path("w2"), h.path("w1"), h.path("scratch")}, Network: netns},
		}
	}
	return &specs.Spec{
		Process: &specs.Process{Args: []string{"sh"}},
		Root:    &specs.Root{},
		Linux:   &specs.Linux{},
		Mounts: []specs.Mount{
			{Type: "bind", Source: h.path("dir"), Destination: "/d", Options: []string{"ro"}},
			{Type: "bind", Source: h.path("dir/file"), Destination: "/f"},
			{Type: "virtual-disk", Source: h.path("disk.vhdx"), Destination: "/v"},
		},
		Windows: &specs.Windows{
			LayerFolders: []string{h.path("large"), h.path("l1"), h.path("scratch")}, Network: netns,
			Devices: []specs.WindowsDevice{{ID: `PCIP\GPU`, IDType: "gpu"}},
		},
		Annotations: map[string]string{"io.microsoft.lcow.gpuvhdpath": h.path("gpu.vhd")},
	}
}

// has is what the VM has been given, on the host and in the guest.
func (h *house) has() string {
	var l []string
	for k := range h.mem.System("vm").Devices() {
		l = append(l, k)
	}
	for k := range h.guest.Resources("vm") { // it is not told when a device is taken
		if !strings.HasPrefix(k, string(hcsschema.ResourceVPCIDevice)) {
			l = append(l, k)
		}
	}
	slices.Sort(l)
	return fmt.Sprint(l)
}

var errHangs = errors.New("it hangs")

// life runs a container in a VM, with all that a container may have, and does
// with the VM what else there is.
func (h *house) life() (err error) {
	if err := h.create(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	ctx, cancel := context.WithTimeoutCause(h.t.Context(), time.Minute, errHangs)
	defer cancel()
	defer func() {
		if ctx.Err() != nil {
			h.t.Errorf("%v", context.Cause(ctx))
		}
	}()
	if err := h.Start(ctx); err != nil {
		return err
	}
	before := h.has()
	err = h.live(ctx)
	if now := h.has(); now != before {
		h.t.Errorf("the VM has\n\t%s\nand had\n\t%s", now, before)
	}
	_, statsErr := h.Stats(ctx)
	if runtime.GOOS == "windows" {
		statsErr = nil // the VM has no process there
	}
	_, dumpErr := h.DumpStacks(ctx)
	return errors.Join(err, statsErr, dumpErr)
}

func (h *house) live(ctx context.Context) error {
	c, err := container.Create(ctx, h.UtilityVM, container.Config{ID: "c", Spec: h.spec(), Network: network{}})
	if err != nil {
		return err
	}
	var out strings.Builder
	init := c.Init()
	if !h.external { // the service knows no init
		init.Spec = h.spec().Process
	}
	init.Stdin, init.Stdout = strings.NewReader("hi"), &out
	err = init.Run(ctx)
	if err == nil && out.String() != "hi" {
		h.t.Errorf("got %q, want what it was given", out.String())
	}
	err = errors.Join(err, h.exec(ctx))
	if deleteErr := c.Delete(ctx); deleteErr != nil {
		err = errors.Join(err, deleteErr)
		if again := c.Delete(ctx); again != nil {
			h.t.Errorf("a second deletion: %v", again)
		}
	}
	return err
}

// exec runs a process in the VM itself until it is killed.
func (h *house) exec(ctx context.Context) error {
	q, err := h.CreateProcess(ctx, &hcsschema.ProcessParameters{CommandLine: "sleep", CommandArgs: []string{"sleep"}})
	if err != nil {
		return err
	}
	_, err = q.Kill(ctx)
	if err == nil {
		err = q.Wait()
	}
	return errors.Join(err, q.Close())
}

// A part is a failure of a test, many of which are tried at a time.
type part struct {
	*testing.T
	n    int // of the call that fails
	undo []func()
}

func (p *part) Cleanup(f func()) { p.undo = append(p.undo, f) }

func (p *part) Errorf(format string, args ...any) {
	p.T.Errorf("failure of call %d: %s", p.n, fmt.Sprintf(format, args...))
}

// try has the n-th call fail, and returns how many there were; 0 is none.
func (k kind) try(t *testing.T, dir string, n int, late bool) (calls int) {
	p := &part{T: t, n: n}
	defer func() {
		for _, f := range slices.Backward(p.undo) {
			f()
		}
	}()
	h := &house{t: p, kind: k, guest: new(hcstest.Guest), dir: dir, own: filepath.Join(t.TempDir(), "vm")}
	h.mem = hcstest.New(hcstest.Config{Boot: h.guest.Boot, Host: hcs.HostInfo{PMemRemovable: true, Processors: 4}})
	script := standin.Script{Sync: n%2 == 1}
	if n > 0 {
		script.Fail = []standin.Failure{{Call: "*", Nth: n, Code: 0x80070057, Late: late}}
	}
	h.bench = standin.Start(p, h.mem, script)
	if err := h.life(); n == 0 && err != nil {
		p.Errorf("%v", err)
	}
	if left := h.mem.Systems(); left != 0 {
		p.Errorf("%d systems are left", left)
	}
	return h.bench.Count("*")
}

// Whichever call of the DLL fails, at once or in the end, nothing hangs, the VM
// has what it had, and when it is closed nothing is open: no handle, no
// operation, no system. The bench looks at the DLL's own counts.
func TestFailures(t *testing.T) {
	for _, k := range []kind{{false, false}, {false, true}, {true, false}, {true, true}} {
		for _, late := range []bool{false, true} {
			step := 1
			if runtime.GOOS == "windows" { // one at a time
				if k.windows != k.external || k.windows == late {
					continue
				}
				step = 2
			}
			t.Run(fmt.Sprintf("%v, late %v", k, late), func(t *testing.T) {
				dir := files(t)
				calls := k.try(t, dir, 0, late)
				if calls < 20 {
					t.Errorf("only %d calls", calls)
				}
				var wg sync.WaitGroup
				for n := 1; n <= calls; n += step {
					wg.Go(func() { k.try(t, dir, n, late) })
				}
				wg.Wait()
			})
		}
	}
}
