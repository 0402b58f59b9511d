package container_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/uvm"
)

var errBoom = errors.New("boom")

// A hostNetwork has one namespace with one endpoint, and counts what is made.
type hostNetwork struct {
	hns.Network
	made atomic.Int32
}

func (n *hostNetwork) CreateNamespace(context.Context) (*hns.HostComputeNamespace, error) {
	n.made.Add(1)
	return &hns.HostComputeNamespace{Id: "ns"}, nil
}

func (n *hostNetwork) RemoveNamespace(context.Context, string) error {
	n.made.Add(-1)
	return nil
}

func (n *hostNetwork) AddToNamespace(context.Context, string, string) error {
	n.made.Add(1)
	return nil
}

func (n *hostNetwork) RemoveFromNamespace(context.Context, string, string) error {
	n.made.Add(-1)
	return nil
}

func (n *hostNetwork) Namespace(_ context.Context, id string) (*hns.HostComputeNamespace, error) {
	return &hns.HostComputeNamespace{Id: id, Resources: []hns.NamespaceResource{hns.NewEndpointResource("ep")}}, nil
}

func (n *hostNetwork) Endpoint(_ context.Context, id string) (*hns.HNSEndpoint, error) {
	return &hns.HNSEndpoint{Id: id, IPAddress: net.IPv4(10, 0, 0, 2)}, nil
}

// A house is a VM in memory, files for it, and what it had at the beginning.
type house struct {
	*uvm.UtilityVM
	t       *testing.T
	dir     string
	engine  *hcstest.Engine
	guest   *hcstest.Guest
	network *hostNetwork
	hook    atomic.Pointer[func(hcstest.Call) error]
	before  string
	last    hcstest.Call // that was failed
}

func newHouse(t *testing.T, windows, external bool) *house {
	t.Helper()
	h := &house{t: t, dir: t.TempDir(), guest: new(hcstest.Guest), network: new(hostNetwork)}
	h.engine = hcstest.New(hcstest.Config{
		Boot: h.guest.Boot,
		Host: hcs.HostInfo{PMemRemovable: true},
		Hook: func(_ context.Context, c hcstest.Call) error {
			if f := h.hook.Load(); f != nil {
				return (*f)(c)
			}
			return nil
		},
	})
	for name, size := range map[string]int{
		"boot/kernel": 1, "boot/initrd.img": 1,
		"l1/layer.vhd": 4096, "l2/layer.vhd": 4096, "scratch/sandbox.vhdx": 4096, "large/layer.vhd": 9000,
		"w1/Files/x": 1, "w2/Files/x": 1,
		"base/UtilityVM/SystemTemplate.vhdx": 4096, "base/UtilityVM/Files/x": 1,
		"dir/file": 1, "dir/more": 1, "disk.vhdx": 512, "managed.vhdx": 512, "gpu.vhd": 512,
	} {
		h.file(name, size)
	}
	common := &uvm.Options{ID: "vm", AllowOvercommit: true, ProcessorCount: 2, ExternalGuestConnection: external, Engine: h.engine, Network: h.network}
	var err error
	if windows {
		h.UtilityVM, err = uvm.CreateWCOW(t.Context(), &uvm.OptionsWCOW{Options: common, LayerFolders: []string{h.path("base"), h.path("vm")}})
	} else {
		h.UtilityVM, err = uvm.CreateLCOW(t.Context(), &uvm.OptionsLCOW{
			Options: common, BootFilesPath: h.path("boot"), KernelFile: "kernel", RootFSFile: "initrd.img", KernelDirect: true,
			SCSIControllerCount: 1, UseGuestConnection: true, ExecCommandLine: "x", VPMemDeviceCount: 2, VPMemSizeBytes: 8192, VPCIEnabled: true,
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.before = h.has()
	return h
}

func (h *house) path(name string) string { return filepath.Join(h.dir, filepath.FromSlash(name)) }

func (h *house) file(name string, size int) string {
	h.t.Helper()
	p := h.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(p, make([]byte, size), 0o644); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// has is all that the VM and the network have been given. The guest is not
// told when a device is taken, and an engine that has the connection to the
// guest itself keeps what it knows of ended containers.
func (h *house) has() string {
	l := h.guest.Containers(h.ID())
	if !h.DeleteContainerStateSupported() {
		l = nil
	}
	for k := range h.engine.System(h.ID()).Devices() {
		l = append(l, k)
	}
	for k := range h.guest.Resources(h.ID()) {
		if !strings.HasPrefix(k, string(hcsschema.ResourceVPCIDevice)) {
			l = append(l, k)
		}
	}
	slices.Sort(l)
	return fmt.Sprint(l, h.network.made.Load())
}

func (h *house) nothingLeft() {
	h.t.Helper()
	if now := h.has(); now != h.before {
		h.t.Logf("after the failure of %s %s", h.last.Op, h.last.Document)
		h.t.Fatalf("the VM has\n\t%s\nand had\n\t%s", now, h.before)
	}
}

// failNth fails the n-th change that is asked for from now on.
func (h *house) failNth(n int) (failed *atomic.Bool) {
	var count atomic.Int32
	failed = new(atomic.Bool)
	f := func(c hcstest.Call) error {
		switch {
		case c.Op == hcstest.OpModify, c.Op == hcstest.OpGrantAccess, c.Op == hcstest.OpCreate,
			c.Op == hcstest.OpStart && c.System != h.ID(), c.Op == hcstest.OpTerminate && c.System != h.ID(), strings.HasPrefix(c.Op, "bridge:"):
			if int(count.Add(1)) == n {
				failed.Store(true)
				h.last = c
				return errBoom
			}
		}
		return nil
	}
	h.hook.Store(&f)
	return failed
}

func (h *house) linuxSpec() *specs.Spec {
	return &specs.Spec{
		Process: &specs.Process{Args: []string{"sh"}},
		Root:    &specs.Root{},
		Linux: &specs.Linux{
			Seccomp:   &specs.LinuxSeccomp{},
			Resources: &specs.LinuxResources{Pids: new(specs.LinuxPids), CPU: new(specs.LinuxCPU)},
		},
		Mounts: []specs.Mount{
			{Type: "bind", Source: h.path("dir"), Destination: "/d", Options: []string{"RO"}},
			{Type: "proc", Source: "proc", Destination: "/proc"},
			{Type: "bind", Source: h.path("dir/file"), Destination: "/f"},
			{Type: "bind", Source: "sandbox:///x", Destination: "/x"},
			{Type: "virtual-disk", Source: h.path("disk.vhdx"), Destination: "/v"},
			{Type: "physical-disk", Source: "/dev/sdx", Destination: "/p", Options: []string{"ro"}},
		},
		Windows: &specs.Windows{
			LayerFolders: []string{h.path("l2"), h.path("large"), h.path("l1"), h.path("scratch")},
			Network:      &specs.WindowsNetwork{EndpointList: []string{"ep"}},
			Devices:      []specs.WindowsDevice{{ID: `PCIP\GPU`, IDType: "gpu"}},
		},
		Annotations: map[string]string{"io.microsoft.lcow.gpuvhdpath": h.path("gpu.vhd")},
	}
}

func (h *house) windowsSpec() *specs.Spec {
	weight := uint16(500)
	memory, iops := uint64(64<<20), uint64(1<<40)
	return &specs.Spec{
		Hostname: "host",
		Process:  &specs.Process{Args: []string{"cmd", "/c", "a b"}, Cwd: `C:\`, User: specs.User{Username: "ContainerUser"}},
		Root:     &specs.Root{},
		Mounts: []specs.Mount{
			{Source: h.path("dir"), Destination: `C:\ro`, Options: []string{"ro"}},
			{Source: h.path("dir"), Destination: `C:\rw`},
			{Source: h.path("dir/file"), Destination: `C:\file`},
			{Source: h.path("dir/more"), Destination: `C:\more`},
			{Source: `\\.\pipe\out`, Destination: `\\.\pipe\in`},
			{Type: "virtual-disk", Source: h.path("disk.vhdx"), Destination: `C:\disk`},
			{Type: "physical-disk", Source: `\\.\PHYSICALDRIVE1`, Destination: `C:\phys`, Options: []string{"ro"}},
		},
		Windows: &specs.Windows{
			LayerFolders: []string{h.path("w2"), h.path("w1"), h.path("scratch")},
			Network:      &specs.WindowsNetwork{EndpointList: []string{"ep"}, DNSSearchList: []string{"a", "b"}, AllowUnqualifiedDNSQuery: true},
			Resources: &specs.WindowsResources{
				CPU:     &specs.WindowsCPUResources{Shares: &weight},
				Memory:  &specs.WindowsMemoryResources{Limit: &memory},
				Storage: &specs.WindowsStorageResources{Iops: &iops},
			},
		},
		Annotations: map[string]string{
			"io.microsoft.container.memory.sizeinmb":              "128",
			"io.microsoft.container.storage.qos.bandwidthmaximum": "much",
		},
	}
}

func (h *house) spec() *specs.Spec {
	if h.OS() == "windows" {
		return h.windowsSpec()
	}
	return h.linuxSpec()
}

func (h *house) create(s *specs.Spec) (*container.Container, error) {
	return h.createAs("c", s)
}

func (h *house) createAs(id string, s *specs.Spec) (*container.Container, error) {
	return container.Create(h.t.Context(), h.UtilityVM, container.Config{ID: id, Spec: s, Network: h.network})
}

// document returns what the container was last created from.
func (h *house) document() string {
	h.t.Helper()
	for _, c := range slices.Backward(h.engine.Calls()) {
		if c.Op == "bridge:Create" {
			var r struct{ ContainerConfig string }
			if err := json.Unmarshal(c.Document, &r); err != nil {
				h.t.Fatal(err)
			}
			return r.ContainerConfig
		}
	}
	h.t.Fatal("no container was created")
	return ""
}

func kinds(t *testing.T, f func(t *testing.T, h *house)) {
	for _, os := range []string{"linux", "windows"} {
		for _, connection := range []string{"internal", "external"} {
			t.Run(os+" "+connection, func(t *testing.T) { f(t, newHouse(t, os == "windows", connection == "external")) })
		}
	}
}

// Whatever fails, everything is given back; and a spec is not changed.
func TestFoldersFail(t *testing.T) {
	kinds(t, func(t *testing.T, h *house) {
		s := h.spec()
		want, _ := json.Marshal(s)
		n := 1
		for ; ; n++ {
			failed := h.failNth(n)
			c, err := h.createAs(fmt.Sprint("c", n), s)
			h.hook.Store(nil)
			if failed.Load() != (err != nil) {
				t.Fatalf("failure at call %d: %v", n, err)
			}
			if err == nil {
				if err := c.Delete(t.Context()); err != nil {
					t.Error(err)
				}
			}
			h.nothingLeft()
			if !failed.Load() {
				break
			}
		}
		if n < 15 {
			t.Errorf("only %d calls", n)
		}
		if got, _ := json.Marshal(s); string(got) != string(want) {
			t.Errorf("the spec is now %s", got)
		}
	})
}

// A release goes on past a failure, and does the rest when it is called again.
func TestFoldersRelease(t *testing.T) {
	container.SetEndPatience(t, time.Millisecond)
	kinds(t, func(t *testing.T, h *house) {
		for n := 1; ; n++ {
			h.hook.Store(nil)
			c, err := h.createAs(fmt.Sprint("c", n), h.spec())
			if err != nil {
				t.Fatal(err)
			}
			failed := h.failNth(n)
			err = c.Delete(t.Context())
			if failed.Load() {
				if err == nil {
					t.Errorf("no error though call %d failed", n)
				}
				err = c.Delete(t.Context())
			}
			if err != nil {
				t.Errorf("failure at call %d: %v", n, err)
			}
			h.nothingLeft()
			if err := c.Delete(t.Context()); err != nil {
				t.Error(err)
			}
			if !failed.Load() {
				if n < 10 {
					t.Errorf("only %d calls", n)
				}
				return
			}
		}
	})
}

func TestLinuxFolders(t *testing.T) {
	h := newHouse(t, false, true)
	c, err := h.create(h.linuxSpec())
	if err != nil {
		t.Fatal(err)
	}
	doc := h.document()
	for _, want := range []string{
		`"source":"/run/gcs/c/c/mounts/m0"`, `"source":"/run/gcs/c/c/mounts/m2/file"`, `"source":"sandbox:///x"`,
		`{"destination":"/v","type":"none","source":"/run/mounts/m2"}`, `"source":"/run/mounts/m3","options":["ro"]`,
		`"windows":{"layerFolders":null,"devices":[{"id":"`, `"networkNamespace":"ns"`, `"path":"/run/gcs/c/c/rootfs"`, `"cpu":{}`,
	} {
		if !strings.Contains(doc, want) {
			t.Errorf("no %s in %s", want, doc)
		}
	}
	for _, not := range []string{"seccomp", "pids", `PCIP`} {
		if strings.Contains(doc, not) {
			t.Errorf("%s in %s", not, doc)
		}
	}
	if p, err := h.GetScsiUvmPath(t.Context(), h.path("large/layer.vhd")); p != "/run/mounts/m1" || err != nil {
		t.Error(p, err)
	}
	var out strings.Builder
	cmd := c.Init()
	cmd.Stdin, cmd.Stdout = strings.NewReader("hi"), &out
	if err := cmd.Run(t.Context()); err != nil || out.String() != "hi" {
		t.Error(err, out.String())
	}
	if err := errors.Join(c.Wait(), c.Delete(t.Context())); err != nil {
		t.Error(err)
	}
	h.nothingLeft()
}

// The root can be a folder of the host.
func TestLinuxRootFolder(t *testing.T) {
	h := newHouse(t, false, true)
	s := &specs.Spec{Process: &specs.Process{Args: []string{"sh"}}, Root: &specs.Root{Path: h.path("dir"), Readonly: true}}
	c, err := h.create(s)
	if err != nil {
		t.Fatal(err)
	}
	if r := h.guest.Resources("vm"); r["MappedDirectory /run/gcs/c/c/rootfs"] == nil {
		t.Error(r)
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	h.nothingLeft()
}

func TestWindowsFolders(t *testing.T) {
	h := newHouse(t, true, true)
	c, err := h.create(h.windowsSpec())
	if err != nil {
		t.Fatal(err)
	}
	var doc hcsschema.HostedSystem
	if err := json.Unmarshal([]byte(h.document()), &doc); err != nil {
		t.Fatal(err)
	}
	const share = `\\?\VMSMB\VSMB-{dcc079ae-60ba-4d07-847c-3493609c0870}\`
	k := doc.Container
	var mounts []string
	for _, m := range k.MappedDirectories {
		mounts = append(mounts, fmt.Sprint(strings.TrimPrefix(m.HostPath, share), " ", m.ContainerPath, " ", m.ReadOnly))
	}
	want := []string{
		`s3 C:\ro true`, `m1 C:\rw false`, `s4\file C:\file false`, `s4\more C:\more false`,
		`C:\mounts\m1 C:\disk false`, `C:\mounts\m2 C:\phys true`,
	}
	if !slices.Equal(mounts, want) {
		t.Errorf("mounts %q, want %q", mounts, want)
	}
	if len(k.MappedPipes) != 1 || k.MappedPipes[0] != (hcsschema.MappedPipe{ContainerPipeName: "in", HostPath: share + `IPC$\out`}) {
		t.Error(k.MappedPipes)
	}
	if l := k.Storage.Layers; len(l) != 2 || l[0].Path != share+"s1" || l[0].Id == l[1].Id || l[0].Id == "" || k.Storage.Path != `C:\c\1` {
		t.Error(k.Storage)
	}
	if *k.Processor != (hcsschema.Processor{Weight: 500}) || k.Memory.SizeInMB != 128 || *k.Storage.QoS != (hcsschema.StorageQoS{IopsMaximum: 1<<31 - 1}) {
		t.Error(k.Processor, k.Memory, k.Storage.QoS)
	}
	if n := k.Networking; n.Namespace != "ns" || n.DnsSearchList != "a,b" || !n.AllowUnqualifiedDnsQuery || k.GuestOs.HostName != "host" {
		t.Error(n, k.GuestOs)
	}
	if err := c.Init().Run(t.Context()); err != nil {
		t.Error(err)
	}
	if !slices.ContainsFunc(h.engine.Calls(), func(c hcstest.Call) bool {
		return c.Op == "bridge:ExecuteProcess" && strings.Contains(string(c.Document), `\"CommandLine\":\"cmd /c \\\"a b\\\"\"`)
	}) {
		t.Error("the process has no command line")
	}
	if err := errors.Join(c.Shutdown(t.Context()), c.Wait(), c.Delete(t.Context())); err != nil {
		t.Error(err)
	}
	h.nothingLeft()
}

// A disk that goes with its container.
func TestManagedDisk(t *testing.T) {
	for _, windows := range []bool{false, true} {
		h := newHouse(t, windows, true)
		s := h.spec()
		s.Mounts = []specs.Mount{{Type: "automanage-virtual-disk", Source: h.path("managed.vhdx"), Destination: `C:\x`}}
		c, err := h.create(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(h.path("managed.vhdx")); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		h.nothingLeft()
	}
}

func TestFoldersRefuse(t *testing.T) {
	for _, c := range []struct {
		name    string
		windows bool
		edit    func(*house, *specs.Spec)
		is      error
	}{
		{"no scratch", false, func(_ *house, s *specs.Spec) { s.Windows.LayerFolders = s.Windows.LayerFolders[:1] }, nil},
		{"no root", false, func(_ *house, s *specs.Spec) { s.Windows = nil }, nil},
		{"no layer", false, func(h *house, s *specs.Spec) { s.Windows.LayerFolders[0] = h.path("nope") }, os.ErrNotExist},
		{"no source", false, func(_ *house, s *specs.Spec) { s.Mounts[4].Source = "" }, nil},
		{"source is not there", false, func(h *house, s *specs.Spec) { s.Mounts[0].Source = h.path("nope") }, os.ErrNotExist},
		{"no GPU disk", false, func(_ *house, s *specs.Spec) { s.Annotations = nil }, nil},
		{"other device", false, func(_ *house, s *specs.Spec) { s.Windows.Devices[0].IDType = "class" }, hcs.ErrNotSupported},
		{"pod", false, func(_ *house, s *specs.Spec) { s.Annotations["io.kubernetes.cri.container-type"] = "sandbox" }, nil},
		{"no kind", false, func(_ *house, s *specs.Spec) { s.Annotations["io.kubernetes.cri.sandbox-id"] = "x" }, nil},
		{"other kind", false, func(_ *house, s *specs.Spec) {
			s.Annotations["io.kubernetes.cri.sandbox-id"], s.Annotations["io.kubernetes.cri.container-type"] = "x", "x"
		}, nil},
		{"no folders", true, func(_ *house, s *specs.Spec) { s.Windows = nil }, nil},
		{"layer on a disk", true, func(h *house, s *specs.Spec) { s.Windows.LayerFolders[0] = h.path("disk.vhdx") }, uvm.ErrSCSILayerWCOWUnsupported},
		{"no layer", true, func(h *house, s *specs.Spec) { s.Windows.LayerFolders[0] = h.path("nope") }, os.ErrNotExist},
		{"read-only root", true, func(_ *house, s *specs.Spec) { s.Root.Readonly = true }, nil},
		{"no root", true, func(_ *house, s *specs.Spec) { s.Root = nil }, nil},
		{"limit and weight", true, func(_ *house, s *specs.Spec) { s.Annotations["io.microsoft.container.processor.limit"] = "100" }, nil},
		{"mount type", true, func(_ *house, s *specs.Spec) { s.Mounts[0].Type = "bind" }, hcs.ErrNotSupported},
		{"mount without destination", true, func(_ *house, s *specs.Spec) { s.Mounts[0].Destination = "" }, nil},
		{"mount is not there", true, func(h *house, s *specs.Spec) { s.Mounts[0].Source = h.path("nope") }, os.ErrNotExist},
		{"device", true, func(_ *house, s *specs.Spec) { s.Windows.Devices = make([]specs.WindowsDevice, 1) }, hcs.ErrNotSupported},
		{"account", true, func(_ *house, s *specs.Spec) { s.Windows.CredentialSpec = "x" }, hcs.ErrNotSupported},
		{"servicing", true, func(_ *house, s *specs.Spec) { s.Windows.Servicing = true }, hcs.ErrNotSupported},
	} {
		t.Run(fmt.Sprintf("%s %v", c.name, c.windows), func(t *testing.T) {
			h := newHouse(t, c.windows, true)
			s := h.spec()
			c.edit(h, s)
			_, err := h.create(s)
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %v", err, c.is)
			}
			h.nothingLeft()
		})
	}
}
