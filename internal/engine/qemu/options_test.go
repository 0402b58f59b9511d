//go:build linux

package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// withOptions returns a running system of the test document, changed.
func withOptions(t *testing.T, change func(*hcsschema.ComputeSystem)) *system {
	t.Helper()
	e := testEngine(t)
	checkResidue(t, e)
	sys, err := e.Create(t.Context(), "vm", testDocument(t, change))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sys.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := sys.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sys.(*system)
}

// All disks share the limits of the document, and come and go as others do.
func TestStorageQoS(t *testing.T) {
	s := withOptions(t, func(cs *hcsschema.ComputeSystem) {
		cs.VirtualMachine.StorageQoS = &hcsschema.StorageQoS{IopsMaximum: 100, BandwidthMaximum: 1 << 20}
	})
	for _, l := range []int{3, 4} {
		a := hcsschema.Attachment{Type: "VirtualDisk", Path: file(t, "disk", 1<<20), ReadOnly: l == 3}
		if err := modify(t.Context(), s, hcsschema.Add, hcs.SCSIPath(0, l), a); err != nil {
			t.Fatal(err)
		}
	}
	var blocks []struct {
		QDev     string `json:"qdev"`
		Inserted struct {
			ReadOnly bool   `json:"ro"`
			Driver   string `json:"drv"`
			Iops     int    `json:"iops"`
		} `json:"inserted"`
	}
	if err := s.qmp.Execute(t.Context(), "query-block", nil, &blocks); err != nil {
		t.Fatal(err)
	}
	if len(blocks) != 2 || blocks[0].Inserted.Driver != "throttle" || blocks[1].Inserted.Driver != "throttle" || !blocks[0].Inserted.ReadOnly == !blocks[1].Inserted.ReadOnly {
		t.Errorf("disks are %+v", blocks)
	}
	var limits map[string]int
	if err := s.qmp.Execute(t.Context(), "qom-get", map[string]any{"path": "/objects/" + diskGroup, "property": "limits"}, &limits); err != nil {
		t.Fatal(err)
	}
	if limits["iops-total"] != 100 || limits["bps-total"] != 1<<20 {
		t.Errorf("limits are %v", limits)
	}
	for _, l := range []int{3, 4} {
		if err := modify(t.Context(), s, hcsschema.Remove, hcs.SCSIPath(0, l), nil); err != nil {
			t.Error(err)
		}
	}
}

// The screen is a socket of the owner's alone, at a place that everybody can
// compute, and speaks RFB to one client after the other. It goes with the
// system.
func TestScreen(t *testing.T) {
	s := withOptions(t, func(cs *hcsschema.ComputeSystem) {
		d := cs.VirtualMachine.Devices
		d.Keyboard, d.EnhancedModeVideo = &hcsschema.Keyboard{}, &hcsschema.EnhancedModeVideo{}
		d.VideoMonitor = &hcsschema.VideoMonitor{HorizontalResolution: 640, VerticalResolution: 480}
	})
	path := filepath.Join(filepath.Dir(s.claim.dir), "vm", "screen.sock")
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode() != fs.ModeSocket|0o600 {
		t.Fatalf("the socket is %v, %v", fi, err)
	}
	for range 2 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		version := make([]byte, 12)
		if _, err := io.ReadFull(c, version); err != nil || !strings.HasPrefix(string(version), "RFB 003.") {
			t.Errorf("read %q, %v", version, err)
		}
		defer c.Close()
	}
	s.Terminate(t.Context())
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket of a stopped system: %v", err)
	}
}

// A screen whose socket has no room for its path is refused.
func TestScreenPath(t *testing.T) {
	e := testEngine(t)
	checkResidue(t, e)
	_, err := e.Create(t.Context(), strings.Repeat("x", 100), testDocument(t, func(cs *hcsschema.ComputeSystem) {
		cs.VirtualMachine.Devices.VideoMonitor = &hcsschema.VideoMonitor{}
	}))
	if err == nil || !strings.Contains(err.Error(), "at most 107 bytes") {
		t.Errorf("got %v", err)
	}
}

// Limits are refused or hold for QEMU, from the start and when they change.
func TestProcessorLimit(t *testing.T) {
	e := testEngine(t)
	checkResidue(t, e)
	sys, err := e.Create(t.Context(), "vm", testDocument(t, func(cs *hcsschema.ComputeSystem) {
		p := cs.VirtualMachine.ComputeTopology.Processor
		p.Limit, p.Weight = 50_000, 300
	}))
	if errors.Is(err, hcs.ErrNotSupported) && strings.Contains(err.Error(), "processor limit") {
		t.Logf("this host has no cgroups for us: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	if err := sys.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := sys.(*system)
	state := func() string {
		t.Helper()
		var all []string
		for c, dir := range s.cgroups.made {
			if b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || !strings.Contains(string(b), fmt.Sprint(s.proc.pid())) {
				t.Errorf("QEMU is not in the cgroup of %q: %q, %v", c, b, err)
			}
			if c == "" || c == "cpu" {
				for _, f := range [][]string{{"cpu.cfs_quota_us", "cpu.max"}, {"cpu.shares", "cpu.weight"}} {
					b, err := os.ReadFile(filepath.Join(dir, f[0]))
					if err != nil {
						b, err = os.ReadFile(filepath.Join(dir, f[1]))
					}
					if err != nil {
						t.Error(err)
					}
					all = append(all, strings.Fields(string(b))[0])
				}
			}
		}
		return strings.Join(all, " ")
	}
	weight := func(v1, v2 string) string {
		if _, ok := s.cgroups.made[""]; ok {
			return v2
		}
		return v1
	}
	none := weight("-1", "max")
	if got, want := state(), "50000 "+weight("3072", "300"); got != want {
		t.Errorf("at the start: %s, want %s", got, want)
	}
	for _, c := range []struct {
		limits hcsschema.ProcessorLimits
		want   string
	}{
		{hcsschema.ProcessorLimits{Limit: 20_000}, "20000 " + weight("3072", "300")},
		{hcsschema.ProcessorLimits{Weight: 50}, "20000 " + weight("512", "50")},
		{hcsschema.ProcessorLimits{}, "20000 " + weight("512", "50")},
		{hcsschema.ProcessorLimits{Limit: 100_000, Weight: 100}, none + " " + weight("1024", "100")},
	} {
		if err := modify(t.Context(), s, hcsschema.Update, hcs.PathProcessorLimits, c.limits); err != nil {
			t.Errorf("%+v: %v", c.limits, err)
		}
		if got := state(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.limits, got, c.want)
		}
	}
	for _, c := range []struct {
		kind   hcsschema.RequestType
		limits any
		says   string
	}{
		{hcsschema.Update, hcsschema.ProcessorLimits{Limit: 100_001}, "at most 100000"},
		{hcsschema.Update, hcsschema.ProcessorLimits{Weight: 1 << 63}, "at most 100000 and 10000"},
		{hcsschema.Update, hcsschema.ProcessorLimits{Reservation: 1}, "Reservation"},
		{hcsschema.Update, hcsschema.ProcessorLimits{MaximumFrequencyMHz: 1}, "MaximumFrequencyMHz"},
		{hcsschema.Update, json.RawMessage(`{"Toast":1}`), "Toast"},
		{hcsschema.Add, hcsschema.ProcessorLimits{}, "Add"},
	} {
		if err := modify(t.Context(), s, c.kind, hcs.PathProcessorLimits, c.limits); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: got %v, want %q", c.limits, err, c.says)
		}
	}
	if got, want := state(), none+" "+weight("1024", "100"); got != want {
		t.Errorf("at the end: %s, want %s", got, want)
	}
	t.Run("what the kernel refuses", func(t *testing.T) {
		made := s.cgroups.made
		defer func() { s.cgroups.made = made }()
		s.cgroups.made = map[string]string{"cpu": t.TempDir() + "/gone"}
		err := modify(t.Context(), s, hcsschema.Update, hcs.PathProcessorLimits, hcsschema.ProcessorLimits{Limit: 1})
		if !errors.Is(err, hcs.ErrNotSupported) || s.shares.now.limit != maxLimit {
			t.Errorf("got %v, and a limit of %d", err, s.shares.now.limit)
		}
	})
}

// A kernel that is no program for UEFI is refused, and UEFI without firmware.
func TestUEFIRefused(t *testing.T) {
	e := testEngine(t)
	checkResidue(t, e)
	kernel := make([]byte, 1024)
	copy(kernel[0x202:], "HdrS")
	dir := filepath.Dir(writeFile(t, "kernel", kernel))
	document := func(cs *hcsschema.ComputeSystem) {
		cs.VirtualMachine.Chipset = &hcsschema.Chipset{Uefi: &hcsschema.Uefi{BootThis: &hcsschema.UefiBootEntry{
			DeviceType: hcsschema.DeviceTypeVmbFs, DevicePath: `\kernel`, VmbFsRootPath: dir,
		}}}
	}
	_, err := e.Create(t.Context(), "vm", testDocument(t, document))
	if err == nil || !strings.Contains(err.Error(), "not a program for UEFI") {
		t.Errorf("got %v", err)
	}
	copy(kernel, "MZ")
	if err := os.WriteFile(filepath.Join(dir, "kernel"), kernel, 0o644); err != nil {
		t.Fatal(err)
	}
	places := uefiFirmware
	defer func() { uefiFirmware = places }()
	uefiFirmware = []string{"/nope/OVMF.fd"}
	_, err = e.Create(t.Context(), "vm", testDocument(t, document))
	if !errors.Is(err, hcs.ErrNotSupported) || !strings.Contains(err.Error(), "Uefi") || !strings.Contains(err.Error(), "ovmf") {
		t.Errorf("got %v", err)
	}
}

// Boot files whose agent looks for devices elsewhere are refused at once.
func TestPlacesOfBootFiles(t *testing.T) {
	e := testEngine(t)
	checkResidue(t, e)
	kernel := make([]byte, 1024)
	copy(kernel[0x202:], "HdrS")
	dir := filepath.Dir(writeFile(t, "kernel", kernel))
	for manifest, says := range map[string]string{
		fmt.Sprintf(`{"format":1,"places":%d}`, place.Version+1): "byre boot build",
		`{"format":1`: "manifest.json",
		fmt.Sprintf(`{"format":1,"places":%d}`, place.Version): "",
		`{"format":1}`: "",
	} {
		if err := os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(manifest), 0o644); err != nil {
			t.Fatal(err)
		}
		sys, err := e.Create(t.Context(), "vm", testDocument(t, func(cs *hcsschema.ComputeSystem) {
			cs.VirtualMachine.Chipset = &hcsschema.Chipset{LinuxKernelDirect: &hcsschema.LinuxKernelDirect{KernelFilePath: filepath.Join(dir, "kernel")}}
		}))
		switch refused := err != nil && strings.Contains(err.Error(), "boot files"); {
		case err == nil:
			t.Errorf("%s: a kernel of no content was started", manifest)
			sys.Close()
		case refused != (says != "") || !strings.Contains(err.Error(), says):
			t.Errorf("%s: got %v, want %q", manifest, err, says)
		}
	}
}

// Who names a folder of boot files gets no other.
func TestBootFolders(t *testing.T) {
	t.Setenv("BYRE_BOOT_FILES", "/nope")
	if got := fmt.Sprint(bootFolders()); got != "[/nope]" {
		t.Errorf("got %s", got)
	}
	t.Setenv("BYRE_BOOT_FILES", "")
	if got := bootFolders(); len(got) < 2 || !slices.Contains(got, "/var/lib/byre/boot") {
		t.Errorf("got %s", got)
	}
}

// What the kernel of this host makes of limits: of version 1 or 2, whichever
// it has. test/ runs this in a guest too, which has the other one.
func TestCgroupOnHost(t *testing.T) {
	h := hostCgroups(t)
	g, dirs := h.plan(fmt.Sprint("test-", os.Getpid()))
	t.Cleanup(func() {
		for _, d := range dirs {
			if err := removeCgroup(d); err != nil {
				t.Error(err)
			}
		}
	})
	m := &machine{processors: 1, shares: shares{limit: 40_000, weight: 300}}
	if err := g.make(m); errors.Is(err, hcs.ErrNotSupported) {
		t.Logf("limits are refused: %v", err)
		return
	} else if err != nil {
		t.Fatal(err)
	}
	spin := exec.Command("/proc/self/exe", "spin")
	out, err := spin.StdoutPipe()
	if err == nil {
		err = spin.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the cgroups go
		spin.Process.Kill()
		spin.Wait()
	})
	if err := g.add(spin.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("spinning"))); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int64{40_000, 10_000} { // one that is there from the start, one that comes later
		if err := g.limit(shares{limit: limit, weight: 300}, 1); err != nil {
			t.Fatal(err)
		}
		used := share(t, spin.Process.Pid)
		t.Logf("limit %d %%, used %.0f %%", limit/1000, 100*used)
		if most := float64(limit)/maxLimit + 0.1; used > most || used == 0 {
			t.Errorf("used %.2f of a processor, want some and at most %.2f", used, most)
		}
	}
	if err := g.limit(shares{limit: maxLimit, weight: defaultWeight}, 1); err != nil {
		t.Errorf("without limits again: %v", err)
	}
}

// hostCgroups finds the host's cgroups.
func hostCgroups(t *testing.T) *cgroupHost {
	t.Helper()
	h, err := findCgroups()
	if err != nil {
		t.Fatal(err)
	}
	version := 1
	if len(h.v1) == 0 {
		version = 2
		if !hasFile(h.unified, "cgroup.type") {
			h = belowRoot(t, h)
		}
	}
	t.Logf("version %d, in %+v", version, *h)
	return h
}

// belowRoot moves this process into a cgroup of its own, as owners are where
// something manages them, until the test ends.
func belowRoot(t *testing.T, h *cgroupHost) *cgroupHost {
	t.Helper()
	root := h.unified
	own := filepath.Join(root, fmt.Sprint("owner-", os.Getpid()))
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Logf("staying in the root: %v", err)
		return h
	}
	t.Cleanup(func() {
		err := write(root, "cgroup.procs", fmt.Sprint(os.Getpid()))
		if err := errors.Join(err, removeCgroup(own)); err != nil {
			t.Error(err)
		}
	})
	if err := write(own, "cgroup.procs", fmt.Sprint(os.Getpid())); err != nil {
		t.Fatal(err)
	}
	h, err := findCgroups()
	if err != nil || h.unified != own {
		t.Fatalf("now in %+v, %v", h, err)
	}
	return h
}

// share returns how much of a processor a process uses over some time.
func share(t *testing.T, pid int) float64 {
	t.Helper()
	const span = 2 * time.Second
	used := func() uint64 {
		st, err := readStat(pid)
		if err != nil {
			t.Fatal(err)
		}
		return st.user + st.system
	}
	time.Sleep(cpuPeriod * time.Microsecond) // what was begun under the old limit
	began, before := time.Now(), used()
	time.Sleep(span)
	ticks := used() - before
	return float64(ticks) / ticksPerSecond / time.Since(began).Seconds()
}
