//go:build linux

package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

// inNamespace gives the test a mount namespace of its own, on a thread that
// ends with it, and an empty folder beneath /run.
func inNamespace(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	runtime.LockOSThread() // not unlocked: the thread is of no other use
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("no mount namespace: %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	return "/run/t"
}

// loop attaches a disk image to a loop device.
func loop(t *testing.T, image string) string {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", image).Output() // stderr has warnings
	if err != nil {
		t.Skipf("no loop device: %v", err)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return dev
}

func image(t *testing.T, kind string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	for name, content := range files {
		p := filepath.Join(src, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	img := filepath.Join(dir, "img")
	var cmd *exec.Cmd
	switch kind {
	case "ext4":
		if err := errors.Join(os.WriteFile(img, nil, 0o600), os.Truncate(img, 8<<20)); err != nil {
			t.Fatal(err)
		}
		cmd = exec.Command("mkfs.ext4", "-q", "-d", src, img)
	case "erofs":
		cmd = exec.Command("mkfs.erofs", img, src)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("%v: %v: %s", cmd.Args, err, out)
	}
	return img
}

func content(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func far() time.Time { return time.Now().Add(20 * time.Second) }

func TestMountDisks(t *testing.T) {
	at := inNamespace(t)
	for _, kind := range []string{"ext4", "erofs"} {
		dev := loop(t, image(t, kind, map[string]string{"f": kind}))
		for _, dax := range []bool{false, true} { // a loop device has no DAX
			err := mountAt(at, 0o700, func(at string) error {
				return Mount(far(), MountRequest{Device: dev, Target: at, ReadOnly: true, DAX: dax})
			})
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			if got := content(t, at+"/f"); got != kind {
				t.Errorf("got %q, want %q", got, kind)
			}
			if err := os.WriteFile(at+"/g", nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("%s: writing to a read-only disk: got %v", kind, err)
			}
			if err := Unmount(at); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(at); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the mount point is left: %v", err)
			}
		}
	}
}

func TestMountFailureRemovesTarget(t *testing.T) {
	at := inNamespace(t)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("text\n", 512*20)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dev := range []string{loop(t, text), "/dev/none"} {
		err := mountAt(at, 0o700, func(at string) error {
			return Mount(soon(), MountRequest{Device: dev, Target: at})
		})
		if err == nil {
			t.Errorf("%s was mounted", dev)
		}
		if _, err := os.Stat(at); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the mount point is left: %v", err)
		}
	}
}

// A place has one mount at a time, and the one that is there stays.
func TestMountOccupied(t *testing.T) {
	at := inNamespace(t)
	tmpfs := func(at string) error { return unix.Mount("tmpfs", at, "tmpfs", 0, "") }
	if err := mountAt(at, 0o700, tmpfs); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at+"/f", []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := func(string) error { t.Error("mounted over another"); return nil }
	if err := mountAt(at, 0o700, second); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v, want %v", err, unix.EBUSY)
	}
	if got := content(t, at+"/f"); got != "first" {
		t.Errorf("got %q", got)
	}
	if err := errors.Join(Unmount(at), mountAt(at, 0o700, tmpfs), Unmount(at)); err != nil {
		t.Error(err)
	}
}

// Whoever comes to a place while another is at it waits.
func TestTurns(t *testing.T) {
	var p turns
	var wg sync.WaitGroup
	n := 0
	for range 20 {
		wg.Go(func() {
			for range 100 {
				done := p.take("a")
				n++ // the race detector looks at this
				p.take("b" + strconv.Itoa(n))()
				done()
			}
		})
	}
	wg.Wait()
	if n != 2000 || len(p.busy) != 0 {
		t.Errorf("%d turns, %d left", n, len(p.busy))
	}
}

func TestUnmount(t *testing.T) {
	at := inNamespace(t)
	if err := Unmount(at); err != nil {
		t.Errorf("missing: got %v, want nil", err)
	}
	if err := Unmount(at + "/x/y"); err != nil {
		t.Errorf("missing parent: got %v, want nil", err)
	}
	// What is no mount point keeps its content.
	if err := errors.Join(os.MkdirAll(at, 0o755), os.WriteFile(at+"/precious", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := Unmount(at); err != nil {
		t.Errorf("not mounted: got %v, want nil", err)
	}
	if _, err := os.Stat(at + "/precious"); err != nil {
		t.Errorf("content was deleted: %v", err)
	}
	// A link is not followed.
	if err := errors.Join(os.Symlink(at, "/run/link"), unix.Mount("tmpfs", at, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	if err := Unmount("/run/link"); err != nil && !errors.Is(err, unix.EINVAL) {
		t.Errorf("a link: got %v", err)
	}
	if _, err := os.Stat(at + "/precious"); !errors.Is(err, os.ErrNotExist) {
		t.Error("a link was followed and its target unmounted")
	}
	if err := Unmount("/run/link/x"); err == nil {
		t.Error("a link in the path was followed")
	}
	for _, p := range []string{"/", "/run", "/etc", "/run/byre/x"} {
		if err := Unmount(p); !errors.Is(err, ErrPath) {
			t.Errorf("%s: got %v, want %v", p, err, ErrPath)
		}
	}
}

func TestUnmountBusy(t *testing.T) {
	at := inNamespace(t)
	if err := errors.Join(os.MkdirAll(at, 0o755), unix.Mount("tmpfs", at, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(at + "/f")
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(2*recheck, func() { f.Close() })
	if err := Unmount(at); err != nil {
		t.Errorf("busy for a moment: got %v, want nil", err)
	}
}

func TestUnmountBeneath(t *testing.T) {
	at := inNamespace(t)
	for _, p := range []string{"", "/a b", "/a b/c", "/a b"} {
		if err := errors.Join(os.MkdirAll(at+p, 0o755), unix.Mount("tmpfs", at+p, "tmpfs", 0, "")); err != nil {
			t.Fatal(err)
		}
	}
	if err := UnmountBeneath(at); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile("/proc/thread-self/mountinfo"); strings.Contains(string(b), at) {
		t.Errorf("mounts are left: %s", b)
	}
}

func TestCombine80Layers(t *testing.T) {
	inNamespace(t)
	c := hcsschema.CombinedLayers{ContainerRootPath: "/run/gcs/c/one/rootfs", ScratchPath: "/run/gcs/c/one"}
	for n := range 80 {
		p := fmt.Sprintf("/run/layers/%s%d", strings.Repeat("long", 20), n)
		if err := errors.Join(os.MkdirAll(p, 0o755), os.WriteFile(fmt.Sprintf("%s/f%d", p, n), nil, 0o644), os.WriteFile(p+"/which", fmt.Append(nil, n), 0o644)); err != nil {
			t.Fatal(err)
		}
		c.Layers = append(c.Layers, hcsschema.Layer{Path: p})
	}
	if err := CombineLayers(c, nil); err != nil {
		t.Fatal(err)
	}
	root := c.ContainerRootPath
	if got := content(t, root+"/which"); got != "0" {
		t.Errorf("the top-most layer: got %s, want 0", got)
	}
	content(t, root+"/f79")
	if err := os.WriteFile(root+"/new", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := RemoveLayers(c); err != nil {
		t.Fatal(err)
	}
	if got := content(t, c.ScratchPath+"/upper/new"); got != "x" {
		t.Errorf("the scratch: got %q", got)
	}
}

func TestCombineReadOnly(t *testing.T) {
	inNamespace(t)
	for _, n := range []int{1, 2} {
		c := hcsschema.CombinedLayers{ContainerRootPath: "/run/gcs/c/one/rootfs"}
		for i := range n {
			p := fmt.Sprintf("/run/layers/p%d", i)
			if err := errors.Join(os.MkdirAll(p, 0o755), os.WriteFile(p+"/f", fmt.Append(nil, i), 0o644)); err != nil {
				t.Fatal(err)
			}
			c.Layers = append(c.Layers, hcsschema.Layer{Path: p})
		}
		if err := CombineLayers(c, nil); err != nil {
			t.Fatal(err)
		}
		if got := content(t, c.ContainerRootPath+"/f"); got != "0" {
			t.Errorf("%d layers: got %q, want 0", n, got)
		}
		if err := os.WriteFile(c.ContainerRootPath+"/g", nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("%d layers: writing: got %v, want %v", n, err, unix.EROFS)
		}
		if err := RemoveLayers(c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCombineErrors(t *testing.T) {
	inNamespace(t)
	if err := os.MkdirAll("/run/layers/p0", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", "/run/layers/link"); err != nil {
		t.Fatal(err)
	}
	l := func(paths ...string) (layers []hcsschema.Layer) {
		for _, p := range paths {
			layers = append(layers, hcsschema.Layer{Path: p})
		}
		return layers
	}
	for name, c := range map[string]hcsschema.CombinedLayers{
		"no layers":     {ContainerRootPath: "/run/r"},
		"no target":     {Layers: l("/run/layers/p0", "/run/layers/p0")},
		"missing layer": {ContainerRootPath: "/run/r", Layers: l("/run/layers/none")},
		"layer outside": {ContainerRootPath: "/run/r", Layers: l("/etc")},
		"layer by link": {ContainerRootPath: "/run/r", Layers: l("/run/layers/link")},
		"bad scratch":   {ContainerRootPath: "/run/r", Layers: l("/run/layers/p0"), ScratchPath: "/etc"},
		"bad target":    {ContainerRootPath: "/etc", Layers: l("/run/layers/p0"), ScratchPath: "/run/s"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := CombineLayers(c, nil); err == nil {
				t.Error("got nil, want an error")
			}
			if _, err := os.Stat("/run/r"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the mount point is left: %v", err)
			}
		})
	}
}

func TestShareErrors(t *testing.T) {
	inNamespace(t)
	d := hcsschema.LCOWMappedDirectory{MountPath: "/run/share", Port: 564, ShareName: "s"}
	refused := errors.New("refused")
	s := &Shares{Dial: func(context.Context, uint32) (net.Conn, error) { return nil, refused }, Log: slog.New(slog.DiscardHandler)}
	err := s.Add(t.Context(), d, nil)
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
	if _, err := os.Stat(d.MountPath); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the mount point is left: %v", err)
	}
	d.ShareName = "a,trans=virtio"
	if err := s.Add(t.Context(), d, nil); err == nil {
		t.Error("a name with an option in it was accepted")
	}
	if err := s.Add(t.Context(), hcsschema.LCOWMappedDirectory{MountPath: "/run/share"}, nil); err == nil {
		t.Error("port 0 was accepted")
	}
}
