//go:build linux

package pipes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/guest/storage"
	"github.com/byrevm/byre/internal/pipe"
)

// host answers every connection to port 7 with its number of bytes.
func host(t *testing.T) Dialer {
	return func(_ context.Context, port uint32) (pipe.Conn, error) {
		if port != 7 {
			return nil, syscall.ECONNRESET
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		var ends [2]*net.UnixConn
		for i, fd := range fds {
			f := os.NewFile(uintptr(fd), "vsock")
			c, err := net.FileConn(f)
			f.Close()
			if err != nil {
				return nil, err
			}
			ends[i] = c.(*net.UnixConn)
		}
		go func() {
			defer ends[1].Close()
			n, _ := io.Copy(io.Discard, ends[1])
			fmt.Fprint(ends[1], n)
		}()
		return ends[0], nil
	}
}

func newSet(t *testing.T) (*Set, string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "byre-pipes-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Error(err)
		}
		for _, e := range left {
			if e.Name() != "kept" {
				t.Errorf("left: %s", e)
			}
		}
		os.RemoveAll(dir)
	})
	return New(host(t), slog.New(slog.DiscardHandler)), dir
}

func ask(t *testing.T, path string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer c.Close()
	fmt.Fprint(c, "three words ok")
	c.(*net.UnixConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestSet(t *testing.T) {
	s, dir := newSet(t)
	p := hcsschema.LCOWMappedPipe{
		MountPath: dir + "/a/b/socket", LinkPath: dir + "/c/d/app.sock", Port: 7,
		Mode: 0o620, UserID: uint32(os.Getuid()), GroupID: uint32(os.Getgid()),
	}
	if os.Getuid() == 0 {
		p.UserID, p.GroupID = 1234, 5678
	}
	for range 2 { // it can be made again
		if err := s.Add(p); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(p.MountPath, &st); err != nil || st.Mode != unix.S_IFSOCK|0o620 || st.Uid != p.UserID || st.Gid != p.GroupID {
			t.Errorf("mode %o, %d:%d, %v", st.Mode, st.Uid, st.Gid, err)
		}
		for _, at := range []string{p.MountPath, p.LinkPath} {
			if got := ask(t, at); got != "14" {
				t.Errorf("at %s: got %q", at, got)
			}
		}
		if err := s.Add(p); !errors.Is(err, unix.EEXIST) {
			t.Errorf("added twice: %v", err)
		}
		c, err := net.Dial("unix", p.MountPath)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Remove(p), s.Remove(p)); err != nil {
			t.Error(err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("a connection went on: %d, %v", n, err)
		}
		c.Close()
	}
	// The folder of somebody else's file stays.
	if err := s.Add(p); err != nil {
		t.Fatal(err)
	}
	keep := dir + "/kept/x"
	p2 := p
	p2.MountPath, p2.LinkPath = dir+"/kept/y", ""
	if err := s.Add(p2); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(keep, nil, 0o600), s.Remove(p2), s.Remove(p)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
	if len(s.m) != 0 {
		t.Errorf("%d left", len(s.m))
	}
}

// TestLinkFollows has a link on the way, as /var/run is one.
func TestLinkFollows(t *testing.T) {
	s, dir := newSet(t)
	if err := errors.Join(os.MkdirAll(dir+"/kept/run", 0o755), os.Symlink("run", dir+"/kept/var"), os.Symlink("/proc", dir+"/kept/bad")); err != nil {
		t.Fatal(err)
	}
	p := hcsschema.LCOWMappedPipe{MountPath: dir + "/s", LinkPath: dir + "/kept/var/x/app.sock", Port: 7, Mode: 0o700, UserID: uint32(os.Getuid()), GroupID: uint32(os.Getgid())}
	if err := s.Add(p); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, dir+"/kept/run/x/app.sock"); got != "14" {
		t.Errorf("got %q", got)
	}
	if err := s.Remove(p); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(dir + "/kept/run/*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	p.LinkPath = dir + "/kept/bad/x/app.sock"
	if err := s.Add(p); !errors.Is(err, storage.ErrPath) {
		t.Error(err)
	}
}

func TestAddRefuses(t *testing.T) {
	s, dir := newSet(t)
	if err := errors.Join(os.Mkdir(dir+"/kept", 0o755), os.WriteFile(dir+"/kept/file", []byte("x"), 0o600), os.Symlink("/tmp", dir+"/kept/link")); err != nil {
		t.Fatal(err)
	}
	good := hcsschema.LCOWMappedPipe{MountPath: dir + "/s", Port: 7, Mode: 0o777, UserID: uint32(os.Getuid()), GroupID: uint32(os.Getgid())}
	for name, edit := range map[string]func(*hcsschema.LCOWMappedPipe){
		"no place":           func(p *hcsschema.LCOWMappedPipe) { p.MountPath = "" },
		"not ours":           func(p *hcsschema.LCOWMappedPipe) { p.MountPath = "/etc/s" },
		"agent's":            func(p *hcsschema.LCOWMappedPipe) { p.MountPath = "/run/byre/s" },
		"not clean":          func(p *hcsschema.LCOWMappedPipe) { p.MountPath = dir + "/../s" },
		"taken":              func(p *hcsschema.LCOWMappedPipe) { p.MountPath = dir + "/kept/file" },
		"taken by a link":    func(p *hcsschema.LCOWMappedPipe) { p.MountPath = dir + "/kept/link" },
		"behind a link":      func(p *hcsschema.LCOWMappedPipe) { p.MountPath = dir + "/kept/link/s" },
		"behind a file":      func(p *hcsschema.LCOWMappedPipe) { p.MountPath = dir + "/kept/file/s" },
		"no port":            func(p *hcsschema.LCOWMappedPipe) { p.Port = 0 },
		"mode":               func(p *hcsschema.LCOWMappedPipe) { p.Mode = 0o4777 },
		"link taken":         func(p *hcsschema.LCOWMappedPipe) { p.LinkPath = dir + "/kept/file" },
		"link relative":      func(p *hcsschema.LCOWMappedPipe) { p.LinkPath = "x" },
		"link not clean":     func(p *hcsschema.LCOWMappedPipe) { p.LinkPath = dir + "//x" },
		"link root":          func(p *hcsschema.LCOWMappedPipe) { p.LinkPath = "/" },
		"link of the kernel": func(p *hcsschema.LCOWMappedPipe) { p.LinkPath = "/proc/x" },
		"link of the agent":  func(p *hcsschema.LCOWMappedPipe) { p.LinkPath = "/run/byre/x/y" },
		"link unprintable":   func(p *hcsschema.LCOWMappedPipe) { p.LinkPath = dir + "/a\nb" },
		"link long":          func(p *hcsschema.LCOWMappedPipe) { p.LinkPath = "/" + strings.Repeat("x", 1100) },
		"link behind a file": func(p *hcsschema.LCOWMappedPipe) { p.LinkPath = dir + "/kept/file/x" },
	} {
		p := good
		edit(&p)
		if err := s.Add(p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if b, err := os.ReadFile(dir + "/kept/file"); string(b) != "x" || err != nil {
		t.Errorf("the file that was there: %q, %v", b, err)
	}
	if err := errors.Join(s.Add(good), s.Remove(good)); err != nil { // nothing is in the way
		t.Error(err)
	}
	for i := range maxPipes {
		p := good
		p.MountPath = fmt.Sprintf("%s/many/%d", dir, i)
		if err := s.Add(p); err != nil {
			t.Fatal(err)
		}
		defer s.Remove(p)
	}
	if err := s.Add(good); err == nil {
		t.Errorf("%d pipes were accepted", maxPipes+1)
	}
}
