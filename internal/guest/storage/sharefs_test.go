//go:build linux

package storage

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

// withDevice gives the test a machine with a virtio-fs device, as far as sysfs
// tells, and shares that can be had by it only.
func withDevice(t *testing.T) (s *Shares, mounts *atomic.Int32, refused error) {
	t.Helper()
	dir := filepath.Join(fakeSys(t), "bus/virtio/devices/virtio3")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/device", []byte(virtioFS+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	mounts, refused = new(atomic.Int32), errors.New("refused")
	return &Shares{
		Dial:    func(context.Context, uint32) (net.Conn, error) { return nil, refused },
		Log:     slog.New(slog.DiscardHandler),
		Mounted: func() { mounts.Add(1) },
	}, mounts, refused
}

// root puts a file system with the named folders where the device's is mounted.
func root(t *testing.T, names ...string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(shareRoot, 0o700), unix.Mount("tmpfs", shareRoot, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		dir := filepath.Join(shareRoot, n)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+"/f", []byte(n), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", path, err)
	}
}

func TestMountFolder(t *testing.T) {
	inNamespace(t)
	s, mounts, refused := withDevice(t)
	root(t, "a", "b,c")
	d := func(name string, readOnly bool) hcsschema.LCOWMappedDirectory {
		return hcsschema.LCOWMappedDirectory{MountPath: "/run/mounts/" + name, ShareName: name, Port: 564, ReadOnly: readOnly}
	}
	for _, readOnly := range []bool{false, true} {
		d := d("a", readOnly)
		if err := s.Add(t.Context(), d, nil); err != nil {
			t.Fatal(err)
		}
		if got := content(t, d.MountPath+"/f"); got != "a" {
			t.Errorf("got %q, want a", got)
		}
		if err := os.WriteFile(d.MountPath+"/f", []byte("a"), 0); readOnly != errors.Is(err, unix.EROFS) || !readOnly && err != nil {
			t.Errorf("writing, read-only %t: %v", readOnly, err)
		}
		var flags unix.Statfs_t
		if err := unix.Statfs(d.MountPath, &flags); err != nil || flags.Flags&(unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOEXEC) != 0 {
			t.Errorf("flags %#x, %v: 9P has none", flags.Flags, err)
		}
		if err := s.Add(t.Context(), d, nil); !errors.Is(err, unix.EBUSY) {
			t.Errorf("two at one place: %v", err)
		}
		if err := s.Remove(d); err != nil {
			t.Error(err)
		}
		gone(t, d.MountPath)
	}
	if n := mounts.Load(); n != 2 {
		t.Errorf("told of %d mounts, want 2", n)
	}
	// What the device does not have is 9P's.
	for _, name := range []string{"none", "", ".", "..", "a/f", "../shares/a"} {
		d := d(name, false)
		d.MountPath = "/run/mounts/other"
		if err := s.Add(t.Context(), d, nil); !errors.Is(err, refused) {
			t.Errorf("%q: got %v, want %v", name, err, refused)
		}
		gone(t, d.MountPath)
	}
	s.Only9P = true
	if err := s.Add(t.Context(), d("a", false), nil); !errors.Is(err, refused) {
		t.Errorf("by 9P only: got %v, want %v", err, refused)
	}
	gone(t, "/run/mounts/a")
}

// noModules are those of an image that has none.
type noModules struct{ asked atomic.Int32 }

func (n *noModules) Insert(names ...string) error {
	n.asked.Add(1)
	if names[0] == modulesFS[0] {
		return errors.New("no such module")
	}
	return nil
}

// A file system that cannot be mounted is tried again by the next share, which
// is 9P's so long, and leaves nothing.
func TestShareRootFails(t *testing.T) {
	inNamespace(t)
	s, mounts, refused := withDevice(t)
	modules := &noModules{}
	for range 2 {
		if err := s.Add(t.Context(), hcsschema.LCOWMappedDirectory{MountPath: "/run/m/a", ShareName: "a", Port: 564}, modules); !errors.Is(err, refused) {
			t.Errorf("got %v, want %v", err, refused)
		}
		gone(t, "/run/m/a")
		gone(t, shareRoot)
	}
	if n := modules.asked.Load(); n != 4 || mounts.Load() != 0 {
		t.Errorf("%d calls for modules, %d mounts", n, mounts.Load())
	}
}
