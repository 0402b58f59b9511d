package uvm_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/internal/engine"
	"github.com/byrevm/byre/uvm"
)

// A windowsSetup says how a test wants its VM.
type windowsSetup struct {
	config   hcstest.Config
	guest    *hcstest.Guest
	external bool
	network  hns.Network
}

// windowsLayers makes layer folders: one without and one with a utility VM,
// and a scratch folder that is not there.
func windowsLayers(t *testing.T) []string {
	t.Helper()
	root := t.TempDir()
	l := []string{filepath.Join(root, "top"), filepath.Join(root, "base"), filepath.Join(root, "c", "vm")}
	for _, d := range []string{l[0], filepath.Join(l[1], "UtilityVM", "Files")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(l[1], "UtilityVM", "SystemTemplate.vhdx"), 100_000)
	return l
}

func prepareWindows(t *testing.T, s windowsSetup) (*testVM, *uvm.OptionsWCOW) {
	t.Helper()
	v := &testVM{t: t, guest: s.guest, hook: new(hook)}
	if v.guest == nil {
		v.guest = &hcstest.Guest{HostMessages: true}
	}
	c := s.config
	c.Hook, c.Boot = v.hook.call, v.guest.Boot
	v.engine = hcstest.New(c)
	o := uvm.NewDefaultOptionsWCOW(strings.ReplaceAll(t.Name(), "/", "-"), "test")
	o.Engine, o.Network, o.ExternalGuestConnection = v.engine, s.network, s.external
	o.LayerFolders = windowsLayers(t)
	return v, o
}

func startWindows(t *testing.T, s windowsSetup) *testVM {
	t.Helper()
	checkGoroutines(t)
	v, o := prepareWindows(t, s)
	vm, err := uvm.CreateWCOW(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	v.UtilityVM = vm
	t.Cleanup(func() {
		if err := vm.Close(); err != nil || v.engine.Systems() != 0 {
			t.Errorf("Close: %v; %d systems", err, v.engine.Systems())
		}
	})
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.since()
	return v
}

func TestCreateWindowsRefuses(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "nope")
	for name, c := range map[string]struct {
		edit func(*uvm.OptionsWCOW)
		fail string // of the engine
		is   error
	}{
		"no layers":      {edit: func(o *uvm.OptionsWCOW) { o.LayerFolders = o.LayerFolders[:1] }},
		"no utility VM":  {edit: func(o *uvm.OptionsWCOW) { o.LayerFolders = slices.Delete(o.LayerFolders, 1, 2) }, is: fs.ErrNotExist},
		"not to be seen": {edit: func(o *uvm.OptionsWCOW) { o.LayerFolders[0] = o.LayerFolders[0] + "\x00" }},
		"no template": {edit: func(o *uvm.OptionsWCOW) {
			os.Remove(filepath.Join(o.LayerFolders[1], "UtilityVM", "SystemTemplate.vhdx"))
		}, is: fs.ErrNotExist},
		"negative":          {edit: func(o *uvm.OptionsWCOW) { o.MemorySizeInMB = -2 }},
		"deferred commit":   {edit: func(o *uvm.OptionsWCOW) { o.EnableDeferredCommit, o.AllowOvercommit = true, false }},
		"additional JSON":   {edit: func(o *uvm.OptionsWCOW) { o.AdditionHCSDocumentJSON = "{" }},
		"access not given":  {edit: func(*uvm.OptionsWCOW) {}, fail: hcstest.OpGrantAccess, is: errBoom},
		"not created":       {edit: func(*uvm.OptionsWCOW) {}, fail: hcstest.OpCreate, is: errBoom},
		"not listened":      {edit: func(o *uvm.OptionsWCOW) { o.ExternalGuestConnection = true }, fail: hcstest.OpListen, is: errBoom},
		"engine of a Linux": {edit: func(o *uvm.OptionsWCOW) { o.Engine = engine.Host(); o.ExternalGuestConnection = true }, is: hcs.ErrNotSupported},
	} {
		if name == "engine of a Linux" && runtime.GOOS != "linux" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			v, o := prepareWindows(t, windowsSetup{})
			c.edit(o)
			if c.fail != "" {
				v.hook.fail(c.fail)
			}
			_, err := uvm.CreateWCOW(t.Context(), o)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %v", err, c.is)
			}
			scratch := filepath.Dir(o.LayerFolders[len(o.LayerFolders)-1])
			if _, err := os.Stat(scratch); filepath.Base(scratch) == "c" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("scratch folder left: %v", err)
			}
			if n := v.engine.Systems(); n != 0 {
				t.Errorf("%d systems left", n)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v, o := prepareWindows(t, windowsSetup{})
	if _, err := uvm.CreateWCOW(ctx, o); !errors.Is(err, context.Canceled) || len(v.engine.Calls()) != 0 {
		t.Error(err, v.engine.Calls())
	}
	if _, err := os.Stat(o.LayerFolders[2]); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := uvm.CreateWCOW(t.Context(), &uvm.OptionsWCOW{LayerFolders: []string{missing, missing}}); err == nil {
		t.Error("created without options")
	}
}

// The scratch is made once, and a scratch that is there is left alone.
func TestWindowsScratch(t *testing.T) {
	v, o := prepareWindows(t, windowsSetup{})
	path := filepath.Join(o.LayerFolders[2], "sandbox.vhdx")
	create := func() *uvm.UtilityVM {
		vm, err := uvm.CreateWCOW(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return vm
	}
	vm := create()
	if fi, err := os.Stat(path); err != nil || fi.Size() != 100_000 {
		t.Error(fi, err)
	}
	if files, err := os.ReadDir(o.LayerFolders[2]); err != nil || len(files) != 1 {
		t.Error(files, err)
	}
	if p, err := vm.GetScsiUvmPath(t.Context(), path); p != "" || err != nil {
		t.Error(p, err)
	}
	if vm.OS() != "windows" || vm.ProcessorCount() != 2 {
		t.Error(vm.OS(), vm.ProcessorCount())
	}
	if err := vm.Close(); err != nil {
		t.Error(err)
	}
	writeFile(t, path, 5)
	v.hook.fail(hcstest.OpGrantAccess) // is not asked for
	if err := create().Close(); err != nil {
		t.Error(err)
	}
	v.hook.fail(hcstest.OpCreate)
	if _, err := uvm.CreateWCOW(t.Context(), o); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() != 5 {
		t.Error(fi, err)
	}
}

func TestWindowsSCSI(t *testing.T) {
	v := startWindows(t, windowsSetup{external: true})
	ctx := t.Context()
	var disks []*uvm.SCSIMount
	for {
		m, err := v.AddSCSI(ctx, v.disk("d.vhdx"), `C:\mnt`, true, uvm.VMAccessTypeNoop)
		if err == uvm.ErrTooManyAttachments {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		disks = append(disks, m)
	}
	if len(disks) != 63 || disks[0].LUN != 1 || disks[62].LUN != 63 {
		t.Errorf("%d disks", len(disks))
	}
	for _, p := range []string{`C:\mnt`, `C:\mnt\layer`} {
		layers := []hcsschema.Layer{{Path: vsmbShare + "s1"}, {Path: p}}
		if err := v.CombineLayersWCOW(ctx, layers, `C:\c\1`); err != uvm.ErrSCSILayerWCOWUnsupported {
			t.Error(err)
		}
	}
	for _, m := range disks {
		if err := m.Release(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.CombineLayersWCOW(ctx, []hcsschema.Layer{{Path: `C:\mnt\layer`}}, `C:\c\1`); err != nil {
		t.Error(err)
	}
	if err := v.CombineLayersLCOW(ctx, nil, "", "/"); !errors.Is(err, hcs.ErrNotSupported) {
		t.Error(err)
	}
}

// A guest is told its addresses if it asks, and a guest that does not take
// them is not started.
func TestWindowsAddresses(t *testing.T) {
	v := startWindows(t, windowsSetup{external: true})
	b, ok := v.guest.Resources(v.ID())["HvSocket "]
	want := `{"LocalAddress":"` + v.system().RuntimeID().String() + `","ParentAddress":"894cc2d6-9d79-424f-93fe-42969ae6d8d1"}`
	if !ok || string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	v = startWindows(t, windowsSetup{external: true, guest: new(hcstest.Guest)})
	if r := v.guest.Resources(v.ID()); len(r) != 0 {
		t.Error(r)
	}
	v, o := prepareWindows(t, windowsSetup{external: true})
	v.hook.fail(guestModify)
	vm, err := uvm.CreateWCOW(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var se *uvm.StartError
	if err := vm.Start(t.Context()); !errors.As(err, &se) || se.Stage != uvm.StageBridge {
		t.Error(err)
	}
	if err := vm.Close(); err != nil {
		t.Error(err)
	}
}

// Processes of a Windows guest: parameters, console and signals.
func TestWindowsProcess(t *testing.T) {
	for _, external := range []bool{false, true} {
		v := startWindows(t, windowsSetup{external: external, guest: &hcstest.Guest{Program: hcstest.Sleep}})
		ctx := t.Context()
		c, err := v.CreateContainer(ctx, "c1", hcsschema.HostedSystem{SchemaVersion: hcsschema.SchemaV21(), Container: &hcsschema.Container{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(ctx); err != nil || c.IsOCI() || c.OS() != "windows" {
			t.Error(err, c.IsOCI(), c.OS())
		}
		for _, host := range []cow.ProcessHost{v, c} {
			p, err := host.CreateProcess(ctx, &hcsschema.ProcessParameters{CommandLine: "cmd", EmulateConsole: true, ConsoleSize: []int32{25, 80}, CreateStdOutPipe: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.ResizeConsole(ctx, 100, 40); err != nil {
				t.Error(err)
			}
			if ok, err := p.Signal(ctx, hcsschema.SignalProcessOptionsWCOW{Signal: hcsschema.CtrlC}); !ok || err != nil {
				t.Error(ok, err)
			}
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
			if code, err := p.ExitCode(); code != 143 || err != nil {
				t.Error(code, err)
			}
			if ok, err := p.Signal(ctx, hcsschema.SignalProcessOptionsWCOW{Signal: hcsschema.CtrlBreak}); ok || err != nil {
				t.Error(ok, err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(c.Shutdown(ctx), c.Wait(), c.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A windowsNetwork has one namespace, or an error.
type windowsNetwork struct {
	hns.Network
	err error
}

func (n *windowsNetwork) Namespace(_ context.Context, id string) (*hns.HostComputeNamespace, error) {
	return &hns.HostComputeNamespace{Id: id, Type: hns.NamespaceGuest}, n.err
}

func TestWindowsNetNS(t *testing.T) {
	n := new(windowsNetwork)
	v := startWindows(t, windowsSetup{external: true, network: n, guest: new(hcstest.Guest)})
	ctx := t.Context()
	n.err = errBoom
	if err := v.AddNetNS(ctx, "ns"); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	n.err = nil
	v.hook.fail(guestModify)
	if err := v.AddNetNS(ctx, "ns"); err == nil {
		t.Error(err)
	}
	v.hook.set(nil)
	if err := v.AddNetNS(ctx, "ns"); err != nil {
		t.Fatal(err)
	}
	if err := v.AddNetNS(ctx, "NS"); err != uvm.ErrNetNSAlreadyAttached {
		t.Error(err)
	}
	e := []*hns.HNSEndpoint{{Id: "e", IPAddress: net.IPv4(10, 0, 0, 2)}}
	// The guest refuses the NIC when it comes: it must not keep what was announced.
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == hcstest.OpModify {
			return errBoom
		}
		return nil
	})
	if err := v.AddEndpointsToNS(ctx, "ns", e); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	if r := v.guest.Resources(v.ID()); len(r) != 1 {
		t.Errorf("the guest has %v", r)
	}
	v.hook.fail(guestModify)
	if err := v.AddEndpointsToNS(ctx, "ns", e); err == nil || len(v.system().Devices()) != 2 {
		t.Error(err, v.system().Devices())
	}
	v.hook.set(nil)
	if err := v.AddEndpointsToNS(ctx, "ns", e); err != nil || len(v.guest.Resources(v.ID())) != 2 {
		t.Error(err, v.guest.Resources(v.ID()))
	}
	v.hook.fail(guestModify)
	if err := v.RemoveNetNS(ctx, "ns"); err == nil {
		t.Error(err)
	}
	v.hook.set(nil)
	n.err = hns.ErrNotFound // the namespace has gone from the host
	if err := v.RemoveNetNS(ctx, "ns"); err != nil {
		t.Error(err)
	}
	if r := v.guest.Resources(v.ID()); len(r) != 0 {
		t.Errorf("the guest has %v", r)
	}
}

// Hosts before build 17763 have another name for the id of a NIC.
func TestWindowsOldNIC(t *testing.T) {
	v := startWindows(t, windowsSetup{config: hcstest.Config{Host: hcs.HostInfo{Build: 17134}}, external: true, network: new(windowsNetwork)})
	ctx := t.Context()
	if err := errors.Join(v.AddNetNS(ctx, "ns"), v.AddEndpointsToNS(ctx, "ns", []*hns.HNSEndpoint{{Id: "e"}})); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range v.engine.Calls() {
		if c.Op == guestModify && strings.Contains(string(c.Document), `"AdapterInstanceId"`) {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d requests with AdapterInstanceId", n)
	}
}

func TestWindowsStats(t *testing.T) {
	v := startWindows(t, windowsSetup{config: hcstest.Config{Properties: func(_ string, p *hcsschema.Properties) {
		if p.Statistics != nil {
			p.Statistics.Memory = &hcsschema.MemoryStats{MemoryUsagePrivateWorkingSetBytes: 4096}
		}
	}}})
	s, err := v.Stats(t.Context())
	if err != nil || s.Memory.WorkingSetBytes != 4096 {
		t.Error(s, err)
	}
	v = startWindows(t, windowsSetup{})
	if s, err = v.Stats(t.Context()); err != nil || s.Memory.WorkingSetBytes != 0 {
		t.Error(s, err)
	}
	if _, err := json.Marshal(s); err != nil {
		t.Error(err)
	}
}
