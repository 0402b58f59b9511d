//go:build linux

package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/uvm"
)

// shellOptions returns those of a VM that has testdata/guest and a shell.
func shellOptions(t testing.TB) *uvm.OptionsLCOW {
	t.Helper()
	o := guestOptions(t, "")
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(o.BootFilesPath, o.RootFSFile)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, make([]byte, -len(b)&3)...)
	b = append(b, archive(t, "bin/busybox", box)...)
	var links bytes.Buffer
	w := cpio.NewWriter(&links)
	for _, name := range []string{"sh", "cat", "dd", "ls", "wc", "sync", "grep", "seq", "test", "basename", "true"} {
		const to = "busybox"
		if err := w.WriteHeader(&cpio.Header{Name: "bin/" + name, Mode: cpio.TypeSymlink | 0o777, Linkname: to, Size: int64(len(to)), Links: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(to)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(b, links.Bytes()...), 0o644); err != nil {
		t.Fatal(err)
	}
	return o
}

// imageSize is the size of the images that newImages makes.
const imageSize = 2 << 20

// newImages makes ext4 file systems whose file f says their number.
func newImages(t testing.TB, n int) (paths []string) {
	t.Helper()
	dir := t.TempDir()
	src, first := filepath.Join(dir, "src"), filepath.Join(dir, "image")
	const mark = "number 000"
	err := errors.Join(os.Mkdir(src, 0o755), os.WriteFile(filepath.Join(src, "f"), []byte(mark), 0o644),
		os.WriteFile(first, nil, 0o644), os.Truncate(first, imageSize))
	if err != nil {
		t.Fatal(err)
	}
	tool(t, "mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", "-d", src, first)
	b, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		p := filepath.Join(dir, fmt.Sprintf("image%03d", i))
		if err := os.WriteFile(p, bytes.Replace(b, []byte(mark), fmt.Appendf(nil, "number %03d", i), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

// tool runs a program of the host and returns its output.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, stderr.String())
	}
	return string(out)
}

// loopDevice attaches an image to a loop device of the host.
func loopDevice(t *testing.T, image string) string {
	t.Helper()
	dev := strings.TrimSpace(tool(t, "losetup", "--find", "--show", image))
	t.Cleanup(func() { tool(t, "losetup", "-d", dev) })
	return dev
}

// fingerprint is the content of a file and what a writer or a change of its
// permissions would leave.
func fingerprint(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	var st unix.Stat_t
	acl, _ := unix.Getxattr(path, "system.posix_acl_access", nil)
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x mode %o of %d:%d, modified %v, ACL %d", h.Sum(nil), st.Mode, st.Uid, st.Gid, st.Mtim, acl)
}

// unchanged checks that a file is what it was when the test ends.
func unchanged(t testing.TB, path string) {
	t.Helper()
	before := fingerprint(t, path)
	t.Cleanup(func() {
		if after := fingerprint(t, path); after != before {
			t.Errorf("%s has changed:\n%s\n%s", path, before, after)
		}
	})
}

// says checks what a script prints in the VM.
func says(ctx context.Context, t testing.TB, vm *uvm.UtilityVM, script, want string) {
	t.Helper()
	if got := do(ctx, t, vm, script); got != (outcome{want, "", 0}) {
		t.Errorf("%s: got %+v, want %q", script, got, want)
	}
}

// node is a script that prints the device node of a disk.
func node(m *uvm.SCSIMount) string {
	return fmt.Sprintf("/dev/$(ls /sys/bus/scsi/devices/0:0:%d:%d/block)", m.Controller, m.LUN)
}

// SCSI disks of all kinds, in one VM.
func TestDisks(t *testing.T) {
	ctx := begin(t)
	o := shellOptions(t)
	vm := boot(ctx, t, o)
	for _, f := range []struct {
		name string
		args []string // of qemu-img convert; nil copies nothing
	}{
		{"raw", nil},
		{"fixed VHD", []string{"-O", "vpc", "-o", "subformat=fixed,force_size"}},
		{"dynamic VHD", []string{"-O", "vpc", "-o", "subformat=dynamic,force_size"}},
		{"VHDX", []string{"-O", "vhdx"}},
	} {
		step(t, f.name, func(ctx context.Context, t *testing.T) {
			disk := newImages(t, 1)[0]
			if f.args != nil {
				raw := disk
				disk = filepath.Join(t.TempDir(), "disk")
				tool(t, "qemu-img", append(append([]string{"convert", "-f", "raw"}, f.args...), raw, disk)...)
			}
			testDisk(ctx, t, vm, disk, vm.AddSCSI)
		})
	}
	step(t, "physical", func(ctx context.Context, t *testing.T) {
		image := newImages(t, 1)[0]
		dev := loopDevice(t, image)
		physical := func(ctx context.Context, hostPath, uvmPath string, readOnly bool, _ uvm.VMAccessType) (*uvm.SCSIMount, error) {
			return vm.AddSCSIPhysicalDisk(ctx, hostPath, uvmPath, readOnly)
		}
		testDisk(ctx, t, vm, dev, physical)
		for path, add := range map[string]func(context.Context, string, string, bool, uvm.VMAccessType) (*uvm.SCSIMount, error){image: physical, dev: vm.AddSCSI} {
			if _, err := add(ctx, path, "", true, uvm.VMAccessTypeNoop); err == nil {
				t.Errorf("%s was attached as the other kind", path)
			}
		}
	})
	step(t, "shared", func(ctx context.Context, t *testing.T) { testSharedDisk(ctx, t, vm) })
	step(t, "refused", func(ctx context.Context, t *testing.T) { testDiskRefused(ctx, t, vm) })
	says(ctx, t, vm, "ls /sys/bus/scsi/devices | grep -c ^0:; ls /run/mounts", "0\n")
}

// testDisk writes to a disk, and finds that again when it is read-only.
func testDisk(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, path string, add func(context.Context, string, string, bool, uvm.VMAccessType) (*uvm.SCSIMount, error)) {
	m, err := add(ctx, path, "/run/mounts/d", false, uvm.VMAccessTypeIndividual)
	if err != nil {
		t.Fatal(err)
	}
	says(ctx, t, vm, "cat /run/mounts/d/f; echo guest >/run/mounts/d/g && sync", "number 000")
	if err := m.Release(ctx); err != nil {
		t.Fatal(err)
	}
	unchanged(t, path)
	for _, access := range []uvm.VMAccessType{uvm.VMAccessTypeNoop, uvm.VMAccessTypeGroup, uvm.VMAccessTypeIndividual} {
		m, err = add(ctx, path, "/run/mounts/d", true, access)
		if err != nil {
			t.Fatal(err)
		}
		says(ctx, t, vm, "cat /run/mounts/d/g; echo x 2>/dev/null >/run/mounts/d/f || echo read-only", "guest\nread-only\n")
		// The device itself is read-only too, whatever the guest thinks of it.
		says(ctx, t, vm, "dd if=/dev/zero bs=4096 count=1 conv=fsync 2>/dev/null of="+node(m)+" || echo refused", "refused\n")
		if err := m.Release(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// testSharedDisk has one disk several times, attached only and mounted.
func testSharedDisk(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
	disks := newImages(t, 2)
	add := func(path, at string) *uvm.SCSIMount {
		t.Helper()
		m, err := vm.AddSCSI(ctx, path, at, true, uvm.VMAccessTypeIndividual)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	where := func(path, want string, class error) {
		t.Helper()
		if got, err := vm.GetScsiUvmPath(ctx, path); got != want || err != class {
			t.Errorf("got %q, %v, want %q, %v", got, err, want, class)
		}
	}
	where(disks[0], "", uvm.ErrNotAttached)
	a := add(disks[0], "")
	where(disks[0], "", nil)
	says(ctx, t, vm, "for i in $(seq 100); do test -e /sys/bus/scsi/devices/0:0:0:0/block && break; busybox sleep 0.1; done; dd if="+node(a)+" bs=4096 count=512 2>/dev/null | grep -c 'number 000'; ls -d /run/mounts/* 2>/dev/null | wc -l", "1\n0\n")
	b := add(disks[0], "/run/mounts/b") // it is mounted now
	c := add(disks[0], "/run/mounts/c") // and stays where it is
	for _, m := range []*uvm.SCSIMount{b, c} {
		if m.UVMPath != "/run/mounts/b" || m.Controller != a.Controller || m.LUN != a.LUN {
			t.Errorf("got %+v, want what is there", m)
		}
	}
	where(disks[0], "/run/mounts/b", nil)
	if _, err := vm.AddSCSI(ctx, disks[0], "/run/mounts/b", false, uvm.VMAccessTypeNoop); err != uvm.ErrAlreadyAttached {
		t.Errorf("writable: got %v, want %v", err, uvm.ErrAlreadyAttached)
	}
	if _, err := vm.AddSCSI(ctx, disks[1], "/run/mounts/b", true, uvm.VMAccessTypeNoop); err == nil {
		t.Error("another disk was mounted at the same place")
	}
	where(disks[1], "", uvm.ErrNotAttached)
	says(ctx, t, vm, "cat /run/mounts/b/f; ls /sys/bus/scsi/devices | grep -c ^0:", "number 0001\n")
	if err := errors.Join(a.Release(ctx), a.Release(ctx), c.Release(ctx)); err != nil {
		t.Error(err)
	}
	says(ctx, t, vm, "cat /run/mounts/b/f", "number 000")
	if err := b.Release(ctx); err != nil {
		t.Error(err)
	}
	where(disks[0], "", uvm.ErrNotAttached)
	if err := vm.RemoveSCSI(ctx, disks[0]); err != uvm.ErrNotAttached {
		t.Errorf("got %v, want %v", err, uvm.ErrNotAttached)
	}
	says(ctx, t, vm, "ls -d /run/mounts/* 2>/dev/null | wc -l; ls /sys/bus/scsi/devices | grep -c ^0:; ls /sys/block | grep -c sd; true", "0\n0\n0\n")
}

// testDiskRefused adds what is no disk, and what the guest cannot mount: in the
// end nothing is attached.
func testDiskRefused(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
	dir := t.TempDir()
	text, blank := filepath.Join(dir, "text"), filepath.Join(dir, "blank")
	child, parent := filepath.Join(dir, "child.vhdx"), newImages(t, 1)[0]
	err := errors.Join(os.WriteFile(text, []byte("no disk"), 0o644), os.WriteFile(blank, make([]byte, 1<<20), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", parent, "-F", "raw", child)
	for _, c := range []struct{ path, at string }{
		{filepath.Join(dir, "none"), ""}, {dir, ""}, {text, ""}, {child, ""}, // the host's half
		{blank, "/run/mounts/x"}, {parent, "/etc/x"}, {parent, "/run/../x"}, // the guest's
	} {
		if _, err := vm.AddSCSI(ctx, c.path, c.at, true, uvm.VMAccessTypeIndividual); err == nil {
			t.Errorf("%s was attached at %q", c.path, c.at)
		}
		if _, err := vm.GetScsiUvmPath(ctx, c.path); err != uvm.ErrNotAttached {
			t.Errorf("%s: got %v, want %v", c.path, err, uvm.ErrNotAttached)
		}
	}
	says(ctx, t, vm, "ls /sys/block | grep -c sd; ls -d /run/mounts/* 2>/dev/null | wc -l", "0\n0\n")
	// Without a mount what is not a file system is attached all the same.
	m, err := vm.AddSCSI(ctx, blank, "", true, uvm.VMAccessTypeIndividual)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Release(ctx); err != nil {
		t.Error(err)
	}
	o := options(t)
	o.SCSIControllerCount = 0
	bare := create(ctx, t, o)
	if _, err := bare.AddSCSI(ctx, blank, "", true, uvm.VMAccessTypeIndividual); err != uvm.ErrNoSCSIControllers {
		t.Errorf("got %v, want %v", err, uvm.ErrNoSCSIControllers)
	}
	if _, err := vm.AddVPMEM(ctx, filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) || errors.Is(err, hcs.ErrStopped) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}
