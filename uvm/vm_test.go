package uvm_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

var errBoom = errors.New("boom")

// A hook may be changed while an engine runs.
type hook struct {
	mu sync.Mutex
	f  func(context.Context, hcstest.Call) error
}

func (h *hook) call(ctx context.Context, c hcstest.Call) error {
	h.mu.Lock()
	f := h.f
	h.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx, c)
}

func (h *hook) set(f func(context.Context, hcstest.Call) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.f = f
}

// fail fails every call of op with errBoom.
func (h *hook) fail(op string) {
	h.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == op {
			return errBoom
		}
		return nil
	})
}

// guestModify is what a guest request is recorded as.
const guestModify = "bridge:ModifySettings"

// A lab is a VM on an engine in memory.
type testVM struct {
	*uvm.UtilityVM
	t      *testing.T
	engine *hcstest.Engine
	guest  *hcstest.Guest
	hook   *hook
	mark   int // calls that since has passed over
	folder *uvm.Plan9Share
}

// setup says how a test wants its VM.
type setup struct {
	guest  *hcstest.Guest
	config hcstest.Config
	edit   func(*uvm.OptionsLCOW)
}

// create makes a VM, and checks when the test ends that nothing is left of
// it.
func create(t *testing.T, s setup) *testVM {
	t.Helper()
	checkGoroutines(t)
	v, opts := prepare(t, s)
	vm, err := uvm.CreateLCOW(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	v.UtilityVM = vm
	sys := v.engine.System(vm.ID())
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if l, c := sys.Open(); l != 0 || c != 0 || v.engine.Systems() != 0 {
			t.Errorf("left after Close: %d listeners, %d connections, %d systems", l, c, v.engine.Systems())
		}
	})
	return v
}

// start makes a VM and starts it.
func start(t *testing.T, s setup) *testVM {
	t.Helper()
	v := create(t, s)
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.since()
	return v
}

// prepare makes an engine and options that boot on it.
func prepare(t *testing.T, s setup) (*testVM, *uvm.OptionsLCOW) {
	t.Helper()
	v := &testVM{t: t, guest: s.guest, hook: new(hook)}
	if v.guest == nil {
		v.guest = new(hcstest.Guest)
	}
	c := s.config
	c.Hook = v.hook.call
	if c.Boot == nil {
		c.Boot = v.guest.Boot
	}
	v.engine = hcstest.New(c)
	opts := uvm.NewDefaultOptionsLCOW(strings.ReplaceAll(t.Name(), "/", "-"), "test")
	opts.Engine = v.engine
	opts.BootFilesPath = t.TempDir()
	opts.KernelFile, opts.RootFSFile = uvm.KernelFile, uvm.InitrdFile
	opts.KernelDirect = true
	opts.PreferredRootFSType = uvm.PreferredRootFSTypeInitRd
	for _, name := range []string{uvm.KernelFile, uvm.InitrdFile, uvm.VhdFile} {
		writeFile(t, filepath.Join(opts.BootFilesPath, name), 1024)
	}
	if s.edit != nil {
		s.edit(opts)
	}
	return v, opts
}

func writeFile(t *testing.T, path string, size int) string {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// since returns the modifications of host and guest since the last call, as
// "host Add Scsi/0/Attachments/1" and "guest Add MappedVirtualDisk /mnt".
func (v *testVM) since() []string {
	v.t.Helper()
	calls := v.engine.Calls()
	var l []string
	for _, c := range calls[v.mark:] {
		if s := describe(v.t, c); s != "" {
			l = append(l, s)
		}
	}
	v.mark = len(calls)
	return l
}

func describe(t *testing.T, c hcstest.Call) string {
	t.Helper()
	var m struct {
		ResourcePath string
		RequestType  hcsschema.RequestType
		Request      struct {
			RequestType  hcsschema.RequestType
			ResourceType string
			Settings     struct{ MountPath, ContainerRootPath string }
		}
	}
	switch c.Op {
	case hcstest.OpGrantAccess:
		return "grant " + filepath.Base(c.Path)
	case hcstest.OpModify, guestModify:
		if err := json.Unmarshal(c.Document, &m); err != nil {
			t.Fatal(err)
		}
	default:
		return ""
	}
	if c.Op == hcstest.OpModify {
		return "host " + string(m.RequestType) + " " + strings.TrimPrefix(m.ResourcePath, "VirtualMachine/Devices/")
	}
	r := m.Request
	return strings.TrimSpace("guest " + string(r.RequestType) + " " + r.ResourceType + " " + r.Settings.MountPath + r.Settings.ContainerRootPath)
}

// expect checks what has reached host and guest since the last call.
func (v *testVM) expect(want ...string) {
	v.t.Helper()
	if got := v.since(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		v.t.Errorf("host and guest got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// empty checks that nothing is attached or mounted.
func (v *testVM) empty() {
	v.t.Helper()
	if d := v.system().Devices(); len(d) != 0 {
		v.t.Errorf("devices left: %v", d)
	}
	if r := v.guest.Resources(v.ID()); len(r) != 0 {
		v.t.Errorf("resources left in the guest: %v", r)
	}
}

func (v *testVM) system() *hcstest.System { return v.engine.System(v.ID()) }

func (v *testVM) disk(name string) string {
	return writeFile(v.t, filepath.Join(v.t.TempDir(), name), 4096)
}

// checked has the tests that look for goroutines at their end, which is after
// the end of all their VMs.
var checked sync.Map

// checkGoroutines fails the test if it leaves goroutines of ours behind.
func checkGoroutines(t *testing.T) {
	t.Helper()
	if _, twice := checked.LoadOrStore(t, true); twice {
		return
	}
	t.Cleanup(func() {
		for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			b := make([]byte, 1<<20)
			b = b[:runtime.Stack(b, true)]
			var left []string
			for _, g := range strings.Split(string(b), "\n\n") {
				if strings.Contains(g, "byre/") && !strings.Contains(g, "checkGoroutines") && !strings.Contains(g, "testing.tRunner") {
					left = append(left, g)
				}
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(end) {
				t.Errorf("%d goroutines left:\n%s", len(left), strings.Join(left, "\n\n"))
				return
			}
		}
	})
}

func TestCreateRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*uvm.OptionsLCOW)
		host hcs.HostInfo
		want string
		is   error
	}{
		"kernel missing": {
			edit: func(o *uvm.OptionsLCOW) { o.BootFilesPath = `c:\does\not\exist\I\hope` },
			want: "kernel: '" + filepath.Join(`c:\does\not\exist\I\hope`, "kernel") + "' not found",
			is:   os.ErrNotExist,
		},
		"root file system missing": {
			edit: func(o *uvm.OptionsLCOW) { o.RootFSFile = "nope" },
			want: "boot file: '", is: os.ErrNotExist,
		},
		"SCSI controllers": {
			edit: func(o *uvm.OptionsLCOW) { o.SCSIControllerCount = 2 },
			want: "SCSI controller count must be 0 or 1",
		},
		"all of no SCSI controllers": {
			edit: func(o *uvm.OptionsLCOW) { o.SCSIControllerCount = 0; o.AllSCSIControllers = true },
			want: "AllSCSIControllers needs",
		},
		"VPMEM count": {
			edit: func(o *uvm.OptionsLCOW) { o.VPMemDeviceCount = uvm.MaxVPMEMCount + 1 },
			want: "vpmem device count cannot be greater than 128",
		},
		"VPMEM size": {
			edit: func(o *uvm.OptionsLCOW) { o.VPMemSizeBytes = 4097 },
			want: "opts.VPMemSizeBytes must be a multiple of 4096",
		},
		"VHD without VPMEM": {
			edit: func(o *uvm.OptionsLCOW) { o.VPMemDeviceCount = 0; o.PreferredRootFSType = uvm.PreferredRootFSTypeVHD },
			want: "PreferredRootFSTypeVHD requires at least one VPMem device",
		},
		"root file system type":     {edit: func(o *uvm.OptionsLCOW) { o.PreferredRootFSType = 2 }, want: "PreferredRootFSType 2"},
		"kernel direct":             {host: hcs.HostInfo{Build: 17763}, want: "KernelDirectBoot", is: hcs.ErrNotSupported},
		"cold discard":              {host: hcs.HostInfo{Build: 18362}, edit: func(o *uvm.OptionsLCOW) { o.EnableColdDiscardHint = true }, want: "EnableColdDiscardHint", is: hcs.ErrNotSupported},
		"negative memory":           {edit: func(o *uvm.OptionsLCOW) { o.MemorySizeInMB = -1 }, want: "MemorySizeInMB must not be negative"},
		"odd maximum of memory":     {edit: func(o *uvm.OptionsLCOW) { o.MemorySizeInMB = 1<<31 - 1 }, want: "MemorySizeInMB"},
		"negative processors":       {edit: func(o *uvm.OptionsLCOW) { o.ProcessorCount = -1 }, want: "ProcessorCount must not be negative"},
		"negative limit":            {edit: func(o *uvm.OptionsLCOW) { o.ProcessorLimit = -1 }, want: "ProcessorLimit must not be negative"},
		"negative weight":           {edit: func(o *uvm.OptionsLCOW) { o.ProcessorWeight = -1 }, want: "ProcessorWeight must not be negative"},
		"negative operations":       {edit: func(o *uvm.OptionsLCOW) { o.StorageQoSIopsMaximum = -1 }, want: "StorageQoSIopsMaximum must not be negative"},
		"negative bandwidth":        {edit: func(o *uvm.OptionsLCOW) { o.StorageQoSBandwidthMaximum = -1 }, want: "StorageQoSBandwidthMaximum must not be negative"},
		"deferred and physical":     {edit: func(o *uvm.OptionsLCOW) { o.EnableDeferredCommit = true; o.AllowOvercommit = false }, want: "EnableDeferredCommit needs"},
		"additional JSON":           {edit: func(o *uvm.OptionsLCOW) { o.AdditionHCSDocumentJSON = `{"Owner":` }, want: "merging additional JSON"},
		"additional JSON no object": {edit: func(o *uvm.OptionsLCOW) { o.AdditionHCSDocumentJSON = `[]` }, want: "merging additional JSON"},
		"no common options":         {edit: func(o *uvm.OptionsLCOW) { o.Options = nil }, want: "options must not be nil"},
	} {
		t.Run(name, func(t *testing.T) {
			v, opts := prepare(t, setup{config: hcstest.Config{Host: c.host}, edit: c.edit})
			vm, err := uvm.CreateLCOW(t.Context(), opts)
			if err == nil {
				vm.Close()
				t.Fatal("created")
			}
			if !strings.HasPrefix(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %q, want %q...", err, c.want)
			}
			if calls := v.engine.Calls(); len(calls) != 0 {
				t.Errorf("the engine was asked: %v", calls)
			}
		})
	}
	if _, err := uvm.CreateLCOW(t.Context(), nil); err == nil {
		t.Error("created from nothing")
	}
}

func TestCreateFails(t *testing.T) {
	for _, c := range []struct {
		op  string
		nth int
	}{{hcstest.OpCreate, 1}, {hcstest.OpCreated, 1}, {hcstest.OpListen, 1}, {hcstest.OpListen, 2}, {hcstest.OpListen, 3}} {
		checkGoroutines(t)
		v, opts := prepare(t, setup{})
		v.hook.set(hcstest.FailNth(c.op, c.nth, errBoom))
		if _, err := uvm.CreateLCOW(t.Context(), opts); !errors.Is(err, errBoom) {
			t.Errorf("%s %d: %v", c.op, c.nth, err)
		}
		if n := v.engine.Systems(); n != 0 {
			t.Errorf("%s %d: %d systems left", c.op, c.nth, n)
		}
	}
	v, opts := prepare(t, setup{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := uvm.CreateLCOW(ctx, opts); !errors.Is(err, context.Canceled) || v.engine.Systems() != 0 {
		t.Errorf("canceled: %v, %d systems", err, v.engine.Systems())
	}
}

// TestCase71CreateKeepsOptions checks that only an empty id is written to.
func TestCase71CreateKeepsOptions(t *testing.T) {
	v, opts := prepare(t, setup{edit: func(o *uvm.OptionsLCOW) {
		o.ID, o.MemorySizeInMB, o.ProcessorCount = "", 1023, 64
	}})
	vm, err := uvm.CreateLCOW(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if opts.ID == "" || opts.ID != vm.ID() || v.engine.System(opts.ID) == nil {
		t.Errorf("id %q, of options %q", vm.ID(), opts.ID)
	}
	if opts.MemorySizeInMB != 1023 || opts.ProcessorCount != 64 || opts.OutputHandler != nil {
		t.Errorf("options changed: %+v", opts)
	}
	if n := vm.ProcessorCount(); n != 2 {
		t.Errorf("%d processors", n)
	}
}

func TestDefaultOptions(t *testing.T) {
	o := uvm.NewDefaultOptionsLCOW("id", "")
	if o.ID != "id" || o.Owner != filepath.Base(os.Args[0]) || o.MemorySizeInMB != 1024 || !o.AllowOvercommit ||
		!o.ExternalGuestConnection || !o.UseGuestConnection || o.SCSIControllerCount != 1 || o.VPMemDeviceCount != 64 ||
		o.VPMemSizeBytes != 4<<30 || !o.ForwardStderr || o.ForwardStdout ||
		!strings.HasPrefix(o.ExecCommandLine, "/bin/gcs -v4 -log-format json -loglevel ") {
		t.Errorf("%+v %+v", o, o.Options)
	}
	w := uvm.NewDefaultOptionsWCOW("", "me")
	if w.ID != "" || w.Owner != "me" || w.MemorySizeInMB != 1024 || len(w.LayerFolders) != 0 {
		t.Errorf("%+v %+v", w, w.Options)
	}
}

func TestLife(t *testing.T) {
	v := create(t, setup{})
	if n, caps := v.Capabilities(); n != 0 || caps.SignalProcessSupported || v.SignalProcessSupported() || v.DeleteContainerStateSupported() {
		t.Error("a VM that was not started has capabilities")
	}
	if v.OS() != "linux" || v.IsOCI() || v.ProcessorCount() < 1 {
		t.Errorf("OS %s, OCI %v, %d processors", v.OS(), v.IsOCI(), v.ProcessorCount())
	}
	for i := range uint64(3) {
		if a, b := v.ContainerCounter(), v.UVMMountCounter(); a != i+1 || b != i+1 {
			t.Errorf("counters %d, %d", a, b)
		}
	}
	if err := v.ExitError(); err == nil || err.Error() != "container not exited" {
		t.Errorf("ExitError before Start: %v", err)
	}
	if err := v.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := v.Start(t.Context()); !errors.Is(err, hcs.ErrInvalidState) {
		t.Errorf("second Start: %v", err)
	}
	if n, _ := v.Capabilities(); n != 4 || !v.SignalProcessSupported() || !v.DeleteContainerStateSupported() {
		t.Errorf("capabilities after Start, protocol %d", n)
	}
	if n := v.guest.Entropy(v.ID()); n != 512 {
		t.Errorf("%d bytes of entropy", n)
	}
	var stages []string
	for _, s := range v.Timeline() {
		stages = append(stages, s.Name)
	}
	if got := strings.Join(stages, " "); got != "create vmm kernel init agent bridge" {
		t.Errorf("stages: %s", got)
	}
	if err := v.ExitError(); err == nil {
		t.Error("ExitError of a running VM is nil")
	}
	waited := make(chan error)
	go func() { waited <- v.Wait() }()
	if err := v.Terminate(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := errors.Join(v.Terminate(t.Context()), v.ExitError(), v.Wait(), v.Close()); err != nil {
			t.Error(err)
		}
	}
	if err := v.Start(t.Context()); !errors.Is(err, hcs.ErrStopped) {
		t.Errorf("Start after Close: %v", err)
	}
	if _, err := v.AddSCSI(t.Context(), "x", "/x", false, uvm.VMAccessTypeNoop); !errors.Is(err, hcs.ErrStopped) {
		t.Errorf("AddSCSI after Close: %v", err)
	}
	if err := v.RemoveCombinedLayers(t.Context(), "/x"); !errors.Is(err, hcs.ErrStopped) {
		t.Errorf("RemoveCombinedLayers after Close: %v", err)
	}
}

func TestCase40And90CloseWithoutStart(t *testing.T) {
	for name, edit := range map[string]func(*uvm.OptionsLCOW){
		"log":      nil,
		"no log":   func(o *uvm.OptionsLCOW) { o.ForwardStderr = false },
		"internal": func(o *uvm.OptionsLCOW) { o.ExternalGuestConnection = false },
		"no guest": func(o *uvm.OptionsLCOW) { o.UseGuestConnection = false },
	} {
		t.Run(name, func(t *testing.T) {
			v := create(t, setup{edit: edit})
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					if err := v.Wait(); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					if err := v.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if err := v.Start(t.Context()); !errors.Is(err, hcs.ErrStopped) {
				t.Errorf("Start after Close: %v", err)
			}
		})
	}
}

func TestDiesBeforeStart(t *testing.T) {
	v := create(t, setup{})
	v.system().Exit(&hcs.Exit{Kind: hcs.ExitVMMKilled})
	if err := v.Wait(); err != nil {
		t.Error(err)
	}
	var exit *hcs.Exit
	if err := v.ExitError(); !errors.As(err, &exit) || exit.Kind != hcs.ExitVMMKilled {
		t.Error(err)
	}
	if err := v.Start(t.Context()); !errors.Is(err, hcs.ErrStopped) {
		t.Error(err)
	}
}

// TestEnds checks what Wait and ExitError say after every end.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		exit        hcs.Exit
		wait, after bool // there is an error
	}{
		{hcs.Exit{Kind: hcs.ExitGuest}, false, false},
		{hcs.Exit{Kind: hcs.ExitTerminated}, false, false},
		{hcs.Exit{Kind: hcs.ExitPanic}, false, true},
		{hcs.Exit{Kind: hcs.ExitOOM}, false, true},
		{hcs.Exit{Kind: hcs.ExitAgent}, false, true},
		{hcs.Exit{Kind: hcs.ExitVMMCrash}, false, true},
		{hcs.Exit{Kind: hcs.ExitVMMKilled, Code: hcs.CodeUnexpectedExit}, false, true},
		{hcs.Exit{Kind: hcs.ExitOther, Code: 0x80004005}, true, true},
	} {
		t.Run(c.exit.Kind.String(), func(t *testing.T) {
			v := start(t, setup{})
			v.system().Exit(&c.exit)
			err := v.Wait()
			if (err != nil) != c.wait {
				t.Errorf("Wait: %v", err)
			}
			for range 2 {
				after := v.ExitError()
				var exit *hcs.Exit
				if (after != nil) != c.after || after != nil && (!errors.As(after, &exit) || exit.Kind != c.exit.Kind) {
					t.Errorf("ExitError: %v", after)
				}
			}
		})
	}
}
