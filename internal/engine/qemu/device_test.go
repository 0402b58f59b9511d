//go:build linux

package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// write makes a file of that content.
func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// openInVMM returns how QEMU holds a file: a line for each descriptor, with
// its flags, and each mapping.
func openInVMM(t *testing.T, s *system, path string) (out []string) {
	t.Helper()
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("/proc/%d/", s.proc.pid())
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if link, _ := os.Readlink(dir + "fd/" + fd.Name()); link == path {
			info, _ := os.ReadFile(dir + "fdinfo/" + fd.Name())
			flags := ""
			for line := range strings.Lines(string(info)) {
				if v, ok := strings.CutPrefix(line, "flags:"); ok {
					flags = strings.TrimSpace(v)
				}
			}
			out = append(out, "fd "+flags[len(flags)-1:])
		}
	}
	maps, err := os.ReadFile(dir + "maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(strings.TrimSpace(line), path) {
			out = append(out, "map "+strings.Fields(line)[1])
		}
	}
	return out
}

// nodeSize asks QEMU for the size of the disk in a slot.
func nodeSize(t *testing.T, s *system, node string) (format string, size int64, readOnly bool) {
	t.Helper()
	var nodes []struct {
		Name  string `json:"node-name"`
		Drv   string `json:"drv"`
		RO    bool   `json:"ro"`
		Image struct {
			Size int64 `json:"virtual-size"`
		} `json:"image"`
	}
	if err := s.qmp.Execute(t.Context(), "query-named-block-nodes", nil, &nodes); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Name == node {
			return n.Drv, n.Image.Size, n.RO
		}
	}
	return "", 0, false
}

func TestSCSI(t *testing.T) {
	s := running(t)
	content := make([]byte, 1<<20)
	qemuImg := func(t *testing.T, kind, options string) string {
		t.Helper()
		p := filepath.Join(t.TempDir(), "disk."+kind)
		out, err := exec.Command("qemu-img", "create", "-q", "-f", kind, "-o", options, p, "8M").CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return p
	}
	for i, c := range []struct {
		name   string
		path   func(*testing.T) string
		format string
		size   int64
	}{
		{"raw", func(t *testing.T) string { return writeFile(t, "d", content) }, "raw", 1 << 20},
		{"fixed", func(t *testing.T) string {
			return writeFile(t, "d.vhd", append(content, vhdFooter(1<<20, vhdFixed)...))
		}, "raw", 1 << 20},
		{"dynamic", func(t *testing.T) string { return qemuImg(t, "vpc", "subformat=dynamic,force_size=on") }, "vpc", 8 << 20},
		{"vhdx", func(t *testing.T) string { return qemuImg(t, "vhdx", "subformat=dynamic") }, "vhdx", 8 << 20},
	} {
		for _, ro := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, read-only %v", c.name, ro), func(t *testing.T) {
				p := c.path(t)
				before, _ := os.ReadFile(p)
				at := hcs.SCSIPath(1, i)
				if err := modify(t.Context(), s, hcsschema.Add, at, hcsschema.Attachment{Type: "VirtualDisk", Path: p, ReadOnly: ro}); err != nil {
					t.Fatal(err)
				}
				format, size, nodeRO := nodeSize(t, s, fmt.Sprintf("disk-scsi-1-%d", i))
				if format != c.format || size != c.size || nodeRO != ro {
					t.Errorf("QEMU sees %s of %d bytes, read-only %v; want %s, %d", format, size, nodeRO, c.format, c.size)
				}
				want := "fd 2" // O_RDWR
				if ro {
					want = "fd 0"
				}
				held := openInVMM(t, s, p)
				for _, h := range held {
					if h != want {
						t.Errorf("QEMU holds the file as %q, want %q", held, want)
					}
				}
				if len(held) == 0 {
					t.Error("QEMU does not hold the file")
				}
				if err := modify(t.Context(), s, hcsschema.Remove, at, nil); err != nil {
					t.Fatal(err)
				}
				if held := openInVMM(t, s, p); len(held) != 0 {
					t.Errorf("after Remove QEMU holds the file as %q", held)
				}
				if after, _ := os.ReadFile(p); ro && !bytes.Equal(before, after) {
					t.Error("the file has changed")
				}
			})
		}
	}
}

// A request that fails leaves its slot free and no file open.
func TestSCSIRefuses(t *testing.T) {
	s := running(t)
	disk := file(t, "disk", 1<<20)
	damaged := vhdx(0) // tables that we read, and nothing else
	for name, c := range map[string]struct {
		a   hcsschema.Attachment
		err string
		is  error
	}{
		"missing":          {hcsschema.Attachment{Type: "VirtualDisk", Path: "/nowhere/disk"}, "", fs.ErrNotExist},
		"no path":          {hcsschema.Attachment{Type: "VirtualDisk"}, "Path", nil},
		"no type":          {hcsschema.Attachment{Path: disk}, "type", hcs.ErrNotSupported},
		"member":           {hcsschema.Attachment{Type: "VirtualDisk", Path: disk, CachingMode: "Cached"}, "CachingMode", hcs.ErrNotSupported},
		"text":             {hcsschema.Attachment{Type: "VirtualDisk", Path: writeFile(t, "a.txt", []byte(strings.Repeat("text\n", 1000)))}, "text file", nil},
		"truncated VHD":    {hcsschema.Attachment{Type: "VirtualDisk", Path: file(t, "a.vhd", 4096)}, "truncated", nil},
		"damaged VHDX":     {hcsschema.Attachment{Type: "VirtualDisk", Path: writeFile(t, "a.vhdx", damaged)}, "opening", nil},
		"QCOW":             {hcsschema.Attachment{Type: "VirtualDisk", Path: writeFile(t, "a", append([]byte("QFI\xfb"), make([]byte, 4092)...))}, "QCOW", hcs.ErrNotSupported},
		"folder":           {hcsschema.Attachment{Type: "VirtualDisk", Path: "/tmp", ReadOnly: true}, "neither a file", nil},
		"device":           {hcsschema.Attachment{Type: "VirtualDisk", Path: "/dev/null", ReadOnly: true}, "neither a file", nil},
		"file as PassThru": {hcsschema.Attachment{Type: "PassThru", Path: disk}, "PassThru", nil},
	} {
		t.Run(name, func(t *testing.T) {
			at := hcs.SCSIPath(0, 9)
			err := modify(t.Context(), s, hcsschema.Add, at, c.a)
			if err == nil || !strings.Contains(err.Error(), c.err) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %q", err, c.err)
			}
			if c.a.Path != "" && !strings.HasPrefix(c.a.Path, "/nowhere") && c.a.Path != "/dev/null" {
				if held := openInVMM(t, s, c.a.Path); len(held) != 0 {
					t.Errorf("QEMU holds the file as %q", held)
				}
			}
			if err := modify(t.Context(), s, hcsschema.Remove, at, nil); !errors.Is(err, hcs.ErrNotFound) {
				t.Errorf("the slot is not free: %v", err)
			}
		})
	}
	var sets []any
	if err := s.qmp.Execute(t.Context(), "query-fdsets", nil, &sets); err != nil || len(sets) != 0 {
		t.Errorf("descriptor sets left: %v, %v", sets, err)
	}
	// The same file twice for writing would be destroyed.
	add := func(lun int, ro bool) error {
		return modify(t.Context(), s, hcsschema.Add, hcs.SCSIPath(0, lun), hcsschema.Attachment{Type: "VirtualDisk", Path: disk, ReadOnly: ro})
	}
	if err := add(0, false); err != nil {
		t.Fatal(err)
	}
	if err := add(1, false); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("a file in use for writing was attached again: %v", err)
	}
}

func TestPMem(t *testing.T) {
	s := running(t)
	content := bytes.Repeat([]byte("\x00byr"), 1<<19)
	for i, c := range []struct {
		name string
		path string
		mode os.FileMode
		held string // how QEMU has it
	}{
		{"raw", writeFile(t, "a", content), 0o644, "fd 0, map r--s"},
		{"fixed VHD", writeFile(t, "a.vhd", append(bytes.Clone(content), vhdFooter(2<<20, vhdFixed)...)), 0o644, "fd 0, map r--s"},
		{"private", writeFile(t, "a", content), 0o600, ""}, // a copy, if QEMU is another user
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.Chmod(c.path, c.mode); err != nil {
				t.Fatal(err)
			}
			d := hcsschema.VirtualPMemDevice{HostPath: c.path, ReadOnly: true, ImageFormat: "Vhd1"}
			if err := modify(t.Context(), s, hcsschema.Add, hcs.VPMemPath(i+40), d); err != nil {
				t.Fatal(err)
			}
			want := c.held
			if os.Geteuid() != 0 {
				want = "fd 0, map r--s"
			}
			if got := strings.Join(openInVMM(t, s, c.path), ", "); got != want {
				t.Errorf("QEMU holds the file as %q, want %q", got, want)
			}
		})
	}
	// The slot of a removed device is its file's.
	path := writeFile(t, "a", content)
	d := hcsschema.VirtualPMemDevice{HostPath: path, ReadOnly: true}
	steps := func(kind hcsschema.RequestType, want error) {
		t.Helper()
		if err := modify(t.Context(), s, kind, hcs.VPMemPath(0), d); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", kind, err, want)
		}
	}
	steps(hcsschema.Add, nil)
	steps(hcsschema.Remove, nil)
	steps(hcsschema.Add, nil)
	steps(hcsschema.Remove, nil)
	if err := os.Remove(path); err != nil { // another file of the same name
		t.Fatal(err)
	}
	steps(hcsschema.Add, fs.ErrNotExist)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	steps(hcsschema.Add, hcs.ErrAlreadyExists)
	steps(hcsschema.Remove, hcs.ErrNotFound)
}

func TestPMemRefuses(t *testing.T) {
	s := running(t)
	ok := file(t, "ok", 2<<20)
	for name, c := range map[string]struct {
		n   int
		d   hcsschema.VirtualPMemDevice
		err string
		is  error
	}{
		"unaligned":   {0, hcsschema.VirtualPMemDevice{HostPath: file(t, "a", 3<<20), ReadOnly: true}, "multiple of 2 MiB", nil},
		"too large":   {0, hcsschema.VirtualPMemDevice{HostPath: file(t, "a", 4<<30+2<<20), ReadOnly: true}, "more than", nil},
		"writable":    {0, hcsschema.VirtualPMemDevice{HostPath: ok}, "ReadOnly", hcs.ErrNotSupported},
		"format":      {0, hcsschema.VirtualPMemDevice{HostPath: ok, ReadOnly: true, ImageFormat: "Raw"}, "Raw", hcs.ErrNotSupported},
		"VHDX":        {0, hcsschema.VirtualPMemDevice{HostPath: writeFile(t, "a.vhdx", vhdx(0)), ReadOnly: true}, "VHDX", hcs.ErrNotSupported},
		"missing":     {0, hcsschema.VirtualPMemDevice{HostPath: "/nowhere", ReadOnly: true}, "", fs.ErrNotExist},
		"no path":     {0, hcsschema.VirtualPMemDevice{ReadOnly: true}, "HostPath", nil},
		"no such one": {64, hcsschema.VirtualPMemDevice{HostPath: ok, ReadOnly: true}, "64 of 64", hcs.ErrNotFound},
		"truncated":   {0, hcsschema.VirtualPMemDevice{HostPath: file(t, "a.vhd", 2<<20), ReadOnly: true}, "truncated", nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := modify(t.Context(), s, hcsschema.Add, hcs.VPMemPath(c.n), c.d)
			if err == nil || !strings.Contains(err.Error(), c.err) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %q", err, c.err)
			}
		})
	}
	if err := modify(t.Context(), s, hcsschema.Add, hcs.VPMemPath(0), hcsschema.VirtualPMemDevice{HostPath: ok, ReadOnly: true}); err != nil {
		t.Errorf("the slot is not free: %v", err)
	}
}

// Everything that a system has room for can be there at once.
func TestFull(t *testing.T) {
	s := running(t)
	disk, layer := file(t, "disk", 1<<20), file(t, "layer", 2<<20)
	for c := range 2 {
		for l := range 64 {
			if err := modify(t.Context(), s, hcsschema.Add, hcs.SCSIPath(c, l), hcsschema.Attachment{Type: "VirtualDisk", Path: disk, ReadOnly: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n := range 64 {
		if err := modify(t.Context(), s, hcsschema.Add, hcs.VPMemPath(n), hcsschema.VirtualPMemDevice{HostPath: layer, ReadOnly: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// A QEMU that hangs does not hold a caller beyond its context; the request
// is undone, or finished, when it goes on.
func TestModifyOfHangingVMM(t *testing.T) {
	s := running(t)
	disk := file(t, "disk", 1<<20)
	at := hcs.SCSIPath(0, 0)
	a := hcsschema.Attachment{Type: "VirtualDisk", Path: disk, ReadOnly: true}
	again := make(chan error, 1)
	hang(t, s, func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- modify(ctx, s, hcsschema.Add, at, a) }()
		waitFor(t, s, hcs.Path{Resource: hcs.ResourceSCSI}, slotAdding)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want canceled", err)
		}
		if err := modify(t.Context(), s, hcsschema.Remove, at, nil); !errors.Is(err, hcs.ErrNotFound) {
			t.Errorf("removing what was called off: %v, want ErrNotFound", err)
		}
		soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := modify(soon, s, hcsschema.Add, at, a); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the slot is not waited for: %v", err)
		}
		go func() { again <- modify(t.Context(), s, hcsschema.Add, at, a) }()
	})
	if err := <-again; err != nil {
		t.Fatal(err)
	}
	hang(t, s, func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- modify(ctx, s, hcsschema.Remove, at, nil) }()
		waitFor(t, s, hcs.Path{Resource: hcs.ResourceSCSI}, slotRemoving)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want canceled", err)
		}
	})
	if err := modify(t.Context(), s, hcsschema.Remove, at, nil); !errors.Is(err, hcs.ErrNotFound) {
		t.Errorf("after the removal: %v, want ErrNotFound", err)
	}
	if held := openInVMM(t, s, disk); len(held) != 0 {
		t.Errorf("QEMU holds the file as %q", held)
	}
}

// A block device of the host, which only root can make.
func TestPassThru(t *testing.T) {
	s := running(t)
	image := file(t, "disk", 4<<20)
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Skip("no loop device: ", err)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	at := hcs.SCSIPath(0, 3)
	if err := modify(t.Context(), s, hcsschema.Add, at, hcsschema.Attachment{Type: "VirtualDisk", Path: dev}); err == nil {
		t.Error("a block device was attached as an image")
	}
	for _, ro := range []bool{true, false} {
		if err := modify(t.Context(), s, hcsschema.Add, at, hcsschema.Attachment{Type: "PassThru", Path: dev, ReadOnly: ro}); err != nil {
			t.Fatal(err)
		}
		if format, size, nodeRO := nodeSize(t, s, "disk-scsi-0-3"); format != "raw" || size != 4<<20 || nodeRO != ro {
			t.Errorf("QEMU sees %s of %d bytes, read-only %v", format, size, nodeRO)
		}
		if err := modify(t.Context(), s, hcsschema.Remove, at, nil); err != nil {
			t.Fatal(err)
		}
		if held := openInVMM(t, s, dev); len(held) != 0 {
			t.Errorf("QEMU holds the device as %q", held)
		}
	}
}

// Devices that the document has are there before the guest runs.
func TestDocumentDevices(t *testing.T) {
	e := testEngine(t)
	checkResidue(t, e)
	disk, layer := file(t, "disk", 1<<20), file(t, "layer", 2<<20)
	sys, err := e.Create(t.Context(), "vm", testDocument(t, func(cs *hcsschema.ComputeSystem) {
		d := cs.VirtualMachine.Devices
		d.Scsi["1"] = hcsschema.Scsi{Attachments: map[string]hcsschema.Attachment{"5": {Type: hcsschema.AttachmentVirtualDisk, Path: disk, IgnoreFlushes: true}}}
		d.VirtualPMem.Devices = map[string]hcsschema.VirtualPMemDevice{"0": {HostPath: layer, ReadOnly: true, ImageFormat: hcsschema.ImageFormatVhd1}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close()
	s := sys.(*system)
	if _, size, ro := nodeSize(t, s, "disk-scsi-1-5"); size != 1<<20 || ro {
		t.Errorf("QEMU sees a disk of %d bytes, read-only %v", size, ro)
	}
	var noFlush []struct {
		Name  string `json:"node-name"`
		Cache struct {
			NoFlush bool `json:"no-flush"`
		} `json:"cache"`
	}
	if err := s.qmp.Execute(t.Context(), "query-named-block-nodes", nil, &noFlush); err != nil {
		t.Fatal(err)
	}
	for _, n := range noFlush {
		if !n.Cache.NoFlush {
			t.Errorf("node %s flushes", n.Name)
		}
	}
	if err := sys.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := modify(t.Context(), sys, hcsschema.Add, hcs.VPMemPath(0), hcsschema.VirtualPMemDevice{HostPath: layer, ReadOnly: true}); !errors.Is(err, hcs.ErrAlreadyExists) {
		t.Errorf("the slot is not taken: %v", err)
	}
	if err := modify(t.Context(), sys, hcsschema.Remove, hcs.SCSIPath(1, 5), nil); err != nil {
		t.Error(err)
	}
	bad := testDocument(t, func(cs *hcsschema.ComputeSystem) {
		cs.VirtualMachine.Devices.Scsi["0"] = hcsschema.Scsi{Attachments: map[string]hcsschema.Attachment{"0": {Type: hcsschema.AttachmentVirtualDisk, Path: "/nowhere"}}}
	})
	if s, err := e.Create(t.Context(), "bad", bad); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
		if err == nil {
			s.Close()
		}
	}
}

// Memory that must not be overcommitted is there before the guest runs.
func TestCommittedMemory(t *testing.T) {
	shmem := func(overcommit bool) int64 {
		t.Helper()
		sys, err := testEngine(t).Create(t.Context(), "vm", testDocument(t, func(cs *hcsschema.ComputeSystem) {
			cs.VirtualMachine.ComputeTopology.Memory = &hcsschema.Memory2{SizeInMB: 128, AllowOvercommit: overcommit}
		}))
		if err != nil {
			t.Fatal(err)
		}
		defer sys.Close()
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", sys.(*system).proc.pid()))
		if err != nil {
			t.Fatal(err)
		}
		var kib int64
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "RssShmem:"); ok {
				fmt.Sscan(v, &kib)
			}
		}
		return kib
	}
	if got := shmem(false); got < 128<<10 {
		t.Errorf("%d KiB are there, want all", got)
	}
	if got := shmem(true); got > 64<<10 {
		t.Errorf("%d KiB are there, though overcommitted", got)
	}
}
