//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/layers"
	"github.com/byrevm/byre/uvm"
)

// save makes a file with some content.
func save(t testing.TB, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestBadOptions creates VMs that cannot be.
func TestBadOptions(t *testing.T) {
	begin(t)
	for _, c := range []struct {
		name string
		edit func(*testing.T, *uvm.OptionsLCOW)
		is   error
		says string
	}{
		{"no kernel", func(_ *testing.T, o *uvm.OptionsLCOW) { o.KernelFile = "nope" }, fs.ErrNotExist, "kernel"},
		{"no initrd", func(_ *testing.T, o *uvm.OptionsLCOW) { o.RootFSFile = "nope" }, fs.ErrNotExist, "boot file"},
		{"no boot files", func(_ *testing.T, o *uvm.OptionsLCOW) { o.BootFilesPath = "/nope" }, fs.ErrNotExist, "/nope"},
		{"no QEMU", func(t *testing.T, _ *uvm.OptionsLCOW) { t.Setenv("PATH", "") }, exec.ErrNotFound, "QEMU is not here"},
		{"text as kernel", func(t *testing.T, o *uvm.OptionsLCOW) {
			o.BootFilesPath = t.TempDir()
			save(t, filepath.Join(o.BootFilesPath, o.RootFSFile), []byte("text"))
			save(t, filepath.Join(o.BootFilesPath, o.KernelFile), []byte("text"))
		}, nil, "kernel"},
		{"negative memory", func(_ *testing.T, o *uvm.OptionsLCOW) { o.MemorySizeInMB = -1 }, nil, "must not be negative"},
		{"too much memory", func(_ *testing.T, o *uvm.OptionsLCOW) { o.MemorySizeInMB = 1_000_000 }, nil, "more than the host's"},
		{"too many devices", func(_ *testing.T, o *uvm.OptionsLCOW) { o.VPMemDeviceCount = 129 }, nil, "cannot be greater than 128"},
		{"an id that is taken", func(t *testing.T, o *uvm.OptionsLCOW) {
			first := options(t)
			create(t.Context(), t, first)
			o.ID = first.ID
		}, hcs.ErrAlreadyExists, ""},
	} {
		step(t, c.name, func(ctx context.Context, t *testing.T) {
			o := options(t)
			c.edit(t, o)
			vm, err := uvm.CreateLCOW(ctx, o)
			if err == nil {
				vm.Close()
				t.Fatal("it was created")
			}
			t.Log(err)
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %v with %q", c.is, c.says)
			}
		})
	}
	step(t, "no memory size is the default", func(ctx context.Context, t *testing.T) {
		o := options(t)
		o.MemorySizeInMB = 0
		create(ctx, t, o)
	})
}

// TestBadBoot starts VMs whose kernel finds nothing to run.
func TestBadBoot(t *testing.T) {
	begin(t)
	for _, c := range []struct {
		name string
		edit func(*testing.T, *uvm.OptionsLCOW)
		kind hcs.ExitKind
	}{
		{"no init", func(_ *testing.T, o *uvm.OptionsLCOW) { o.KernelBootOptions = "rdinit=/nope" }, hcs.ExitPanic},
		{"corrupt initrd", func(t *testing.T, o *uvm.OptionsLCOW) {
			dir := t.TempDir()
			if err := os.Symlink(filepath.Join(o.BootFilesPath, o.KernelFile), filepath.Join(dir, o.KernelFile)); err != nil {
				t.Fatal(err)
			}
			save(t, filepath.Join(dir, o.RootFSFile), []byte(strings.Repeat("no archive ", 1000)))
			o.BootFilesPath = dir
		}, hcs.ExitPanic},
		{"no agent", func(_ *testing.T, o *uvm.OptionsLCOW) { o.ExecCommandLine = "/bin/nope" }, hcs.ExitAgent},
	} {
		step(t, c.name, func(ctx context.Context, t *testing.T) {
			t.Parallel()
			o := options(t)
			o.MemorySizeInMB = 256
			c.edit(t, o)
			vm := create(ctx, t, o)
			e := startFails(ctx, t, vm, "")
			var exit *hcs.Exit
			if !errors.As(e, &exit) || exit.Kind != c.kind {
				t.Errorf("got %v, want %v", exit, c.kind)
			}
			if !strings.Contains(e.Error(), "Kernel panic - not syncing") || strings.Contains(e.Error(), "RAX:") {
				t.Error("the console's last words are not there, or more than they")
			}
			if err := vm.ExitError(); !errors.As(err, &exit) {
				t.Errorf("ExitError: %v", err)
			}
		})
	}
}

// TestBadImage opens images that are damaged, and one where the disk is full.
func TestBadImage(t *testing.T) {
	begin(t)
	damage := func(t *testing.T, do func(blob string)) string {
		dir := filepath.Join(t.TempDir(), "image")
		if err := os.CopyFS(dir, os.DirFS(testImage(t))); err != nil {
			t.Fatal(err)
		}
		var largest string
		var size int64
		filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if fi, err := d.Info(); err == nil && fi.Mode().IsRegular() && fi.Size() > size {
				largest, size = p, fi.Size()
			}
			return err
		})
		do(largest)
		return dir
	}
	for _, c := range []struct {
		name  string
		image func(*testing.T) string
		cache func(*testing.T) string
		is    error
		says  string
	}{
		{"corrupt layer", func(t *testing.T) string {
			return damage(t, func(blob string) {
				b, err := os.ReadFile(blob)
				if err != nil {
					t.Fatal(err)
				}
				b[len(b)/2] ^= 1
				save(t, blob, b)
			})
		}, nil, layers.ErrDigest, ""},
		{"truncated layer", func(t *testing.T) string {
			return damage(t, func(blob string) {
				if err := os.Truncate(blob, 1000); err != nil {
					t.Fatal(err)
				}
			})
		}, nil, layers.ErrDigest, ""},
		{"no layer", func(t *testing.T) string {
			return damage(t, func(blob string) { os.Remove(blob) })
		}, nil, layers.ErrNotFound, ""},
		{"no image", func(t *testing.T) string { return t.TempDir() }, nil, layers.ErrInvalid, "not an OCI layout"},
		{"full disk", func(t *testing.T) string { return testImage(t) }, func(t *testing.T) string {
			dir := t.TempDir()
			if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, 0); err != nil {
					t.Error(err)
				}
			})
			return dir
		}, syscall.ENOSPC, "is full"},
	} {
		step(t, c.name, func(ctx context.Context, t *testing.T) {
			ref, cache := c.image(t), ""
			if c.cache != nil {
				cache = c.cache(t)
			} else {
				cache = t.TempDir()
			}
			img, err := container.OpenImage(ctx, ref, container.ImageOptions{CacheDir: cache})
			if err == nil {
				img.Close()
				t.Fatal("it was opened")
			}
			t.Log(err)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %v with %q", c.is, c.says)
			}
			filepath.WalkDir(cache, func(p string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() && filepath.Base(filepath.Dir(p)) != "locks" {
					t.Errorf("%s is left", p)
				}
				return err
			})
		})
	}
}

// TestBadDisks attaches what is no disk, and more than there is room for, to
// one VM.
func TestBadDisks(t *testing.T) {
	ctx := begin(t)
	o := options(t)
	o.VPMemDeviceCount = 3
	vm := boot(ctx, t, o)
	dir := t.TempDir()
	good := func(name string) string { return save(t, filepath.Join(dir, name), make([]byte, 2<<20)) }
	vhd, err := os.ReadFile(filepath.Join(o.BootFilesPath, uvm.VhdFile))
	if err != nil {
		t.Fatal(err)
	}
	layer := func(name string) string { return save(t, filepath.Join(dir, name), vhd[:len(vhd)-512]) }
	for name, c := range map[string]struct {
		path, says string
	}{
		"truncated VHD": {save(t, filepath.Join(dir, "cut.vhd"), vhd[:len(vhd)/2]), "truncated"},
		"text":          {save(t, filepath.Join(dir, "text"), []byte(strings.Repeat("this is no disk\n", 64))), "text file"},
		"text as VHDX":  {save(t, filepath.Join(dir, "text.vhdx"), []byte(strings.Repeat("this is no disk\n", 64))), "not a disk image"},
		"empty":         {save(t, filepath.Join(dir, "empty"), nil), "empty"},
		"no file":       {filepath.Join(dir, "nope"), "no such file"},
		"folder":        {dir, "director"},
		"no system":     {good("zeros"), ""}, // a disk, but the guest cannot mount it
	} {
		step(t, name, func(ctx context.Context, t *testing.T) {
			_, scsi := vm.AddSCSI(ctx, c.path, "/run/mounts/bad", true, uvm.VMAccessTypeIndividual)
			_, vpmem := vm.AddVPMEM(ctx, c.path)
			for what, err := range map[string]error{"SCSI": scsi, "VPMEM": vpmem} {
				if err == nil || !strings.Contains(err.Error(), c.path) || c.path != dir && !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: got %v, want the path and %q", what, err, c.says)
				}
				t.Log(err)
			}
			if n := opened(t, vmm(t, vm.ID()), c.path); n > 0 && name != "no system" { // that one's memory stays, see DESIGN
				t.Errorf("QEMU has it open %d times", n)
			}
		})
	}
	step(t, "no free slot of persistent memory", func(ctx context.Context, t *testing.T) {
		for i := range 3 { // the first slot is kept for the zeros above
			_, err := vm.AddVPMEM(ctx, layer(fmt.Sprint("layer", i)))
			if full := i == 2; full != errors.Is(err, uvm.ErrNoAvailableLocation) || !full && err != nil {
				t.Errorf("layer %d: got %v", i+1, err)
			}
		}
	})
	step(t, "no free slot", func(ctx context.Context, t *testing.T) {
		var mounts []*uvm.SCSIMount
		for i := range 65 { // also: none of the above has kept one
			m, err := vm.AddSCSI(ctx, good(fmt.Sprint("disk", i)), "", true, uvm.VMAccessTypeIndividual)
			if i == 64 {
				if !errors.Is(err, uvm.ErrNoAvailableLocation) && !errors.Is(err, uvm.ErrTooManyAttachments) {
					t.Errorf("disk 65: got %v", err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("disk %d: %v", i+1, err)
			}
			mounts = append(mounts, m)
		}
		if err := mounts[63].Release(ctx); err != nil {
			t.Error(err)
		}
		if _, err := vm.AddSCSI(ctx, good("another"), "", true, uvm.VMAccessTypeIndividual); err != nil {
			t.Errorf("after one was removed: %v", err)
		}
	})
}

// opened returns how often a process has a file open.
func opened(t testing.TB, pid int, path string) (n int) {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("process %d: %v", pid, err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == path {
			n++
		}
	}
	return n
}
