package virtiofs

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

func (g *guest) fallocate(node, fh, off, length uint64, mode uint32) error {
	g.t.Helper()
	_, err := g.call(opFallocate, node, fh, off, length, mode, uint32(0))
	return err
}

func TestFallocate(t *testing.T) {
	dir := folder(t, "f", "data", "g", "data")
	path := filepath.Join(dir, "f")
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir})
	node := g.walk("s", "f").node
	fh := g.open(node, unix.O_RDWR)
	size := func(what string, want uint64) {
		t.Helper()
		if a, err := g.getattr(node); err != nil || a.size != want {
			t.Errorf("%s: size %d, %v, want %d", what, a.size, err, want)
		}
	}
	const keep, punch, zero = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE
	wantErr(t, "keep size", g.fallocate(node, fh, 0, 1<<20, keep), nil)
	size("keep size", 4)
	wantErr(t, "longer", g.fallocate(node, fh, 10, 1<<20, 0), nil)
	size("longer", 1<<20+10)
	if a, err := g.getattr(node); err != nil || a.blocks < 2048 {
		t.Errorf("%d blocks, %v", a.blocks, err)
	}
	wantErr(t, "hole", g.fallocate(node, fh, 1, 2, punch|keep), nil)
	if b, err := os.ReadFile(path); err != nil || string(b[:4]) != "d\x00\x00a" {
		t.Errorf("got %q, %v", b[:4], err)
	}
	for _, tt := range []struct {
		what        string
		node, fh    uint64
		off, length uint64
		mode        uint32
		want        error
	}{
		{"no length", node, fh, 0, 0, 0, unix.EINVAL},
		{"negative length", node, fh, 0, 1 << 63, 0, unix.EINVAL},
		{"negative offset", node, fh, 1 << 63, 1, 0, unix.EINVAL},
		{"end too large", node, fh, math.MaxInt64, 2, keep, unix.EFBIG},
		{"punch alone", node, fh, 0, 2, punch, unix.EOPNOTSUPP},
		{"collapse", node, fh, 0, 4096, unix.FALLOC_FL_COLLAPSE_RANGE, unix.EOPNOTSUPP},
		{"unknown mode", node, fh, 0, 2, 1 << 31, unix.EOPNOTSUPP},
		{"handle", node, fh + 99, 0, 2, 0, unix.EBADF},
		{"handle of another file", g.walk("s", "g").node, fh, 0, 2, 0, unix.EBADF},
		{"node", node + 99, fh, 0, 2, 0, unix.ESTALE},
		{"not open for writing", node, g.open(node, unix.O_RDONLY), 0, 2, 0, unix.EBADF},
	} {
		wantErr(t, tt.what, g.fallocate(tt.node, tt.fh, tt.off, tt.length, tt.mode), tt.want)
	}
	size("after errors", 1<<20+10)

	// Set-user-id is for what its owner has written.
	for _, uid := range []uint32{0, 1000} {
		if err := unix.Chmod(path, 0o6755); err != nil {
			t.Fatal(err)
		}
		g.uid = uid
		wantErr(t, "by a user", g.fallocate(node, fh, 0, 1, keep), nil)
		want := map[uint32]uint32{0: 0o6755, 1000: 0o755}[uid]
		if a, err := g.getattr(node); err != nil || a.mode != unix.S_IFREG|want {
			t.Errorf("user %d: mode %o, %v, want %o", uid, a.mode, err, want)
		}
	}
}

func TestSeek(t *testing.T) {
	dir := folder(t, "f", "data")
	f, err := os.OpenFile(filepath.Join(dir, "f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 1<<20); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir})
	node := g.walk("s", "f").node
	fh := g.open(node, unix.O_RDONLY)
	for _, tt := range []struct {
		off    uint64
		whence uint32
		want   error
	}{
		{0, unix.SEEK_DATA, nil}, {0, unix.SEEK_HOLE, nil}, {1 << 19, unix.SEEK_DATA, nil},
		{1 << 20, unix.SEEK_HOLE, nil}, {1<<20 + 1, unix.SEEK_DATA, unix.ENXIO}, {1 << 40, unix.SEEK_HOLE, unix.ENXIO},
		{1 << 63, unix.SEEK_DATA, unix.EINVAL}, {0, unix.SEEK_SET, unix.EINVAL}, {0, unix.SEEK_CUR, unix.EINVAL},
		{0, unix.SEEK_END, unix.EINVAL}, {0, 1<<32 - 1, unix.EINVAL}, {0, 9, unix.EINVAL},
	} {
		b, err := g.call(opLseek, node, fh, tt.off, tt.whence, uint32(0))
		wantErr(t, "seek", err, tt.want)
		if err != nil {
			continue
		}
		want, err := f.Seek(int64(tt.off), int(tt.whence))
		d := decoder{b: b}
		if got := d.u64(); got != uint64(want) || !d.done() || err != nil {
			t.Errorf("%d from %d: got %d, want %d, %v", tt.whence, tt.off, got, want, err)
		}
	}
	_, err = g.call(opLseek, node, fh, uint64(0), uint32(unix.SEEK_DATA))
	wantErr(t, "short", err, unix.EINVAL)
	d := g.walk("s").node
	_, err = g.call(opLseek, d, g.opendir(d), uint64(0), uint32(unix.SEEK_DATA), uint32(0))
	wantErr(t, "of a folder", err, unix.EINVAL)
}

func (g *guest) copyRange(node, fh, off, node2, fh2, at, n, flags uint64) (uint32, error) {
	g.t.Helper()
	b, err := g.call(opCopyFileRange, node, fh, off, node2, fh2, at, n, flags)
	if err != nil {
		return 0, err
	}
	d := decoder{b: b}
	size, pad := d.u32(), d.u32()
	if pad != 0 || !d.done() {
		g.t.Fatalf("COPY_FILE_RANGE answers %x", b)
	}
	return size, nil
}

func TestCopyFileRange(t *testing.T) {
	dir, other := folder(t, "f", "0123456789", "g", "abc"), folder(t, "h", "")
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir}, hostfs.Share{Name: "o", Path: other},
		hostfs.Share{Name: "ro", Path: dir, ReadOnly: true})
	f, h2, ro := g.walk("s", "f").node, g.walk("o", "h").node, g.walk("ro", "g").node
	to := g.walk("s", "g").node
	from, dest, there := g.open(f, unix.O_RDWR), g.open(to, unix.O_RDWR), g.open(h2, unix.O_RDWR)
	reads := g.open(ro, unix.O_RDONLY)
	type try struct {
		what           string
		node, fh, off  uint64
		node2, fh2, at uint64
		n, flags       uint64
		size           uint32
		want           error
	}
	for _, tt := range []try{
		{"to another file", f, from, 2, to, dest, 1, 4, 0, 4, nil},
		{"more than there is", f, from, 8, to, dest, 5, 1 << 60, 0, 2, nil},
		{"from the end", f, from, 10, to, dest, 0, 5, 0, 0, nil},
		{"nothing", f, from, 0, to, dest, 0, 0, 0, 0, nil},
		{"within", f, from, 0, f, from, 10, 3, 0, 3, nil},
		{"over itself", f, from, 0, f, from, 1, 3, 0, 0, unix.EINVAL},
		{"to another share", f, from, 0, h2, there, 0, 5, 0, 5, nil},
		{"to a read-only share", f, from, 0, ro, reads, 0, 5, 0, 0, unix.EROFS},
		{"not open for writing", f, from, 0, to, g.open(to, unix.O_RDONLY), 0, 5, 0, 0, unix.EBADF},
		{"not open for reading", to, g.open(to, unix.O_WRONLY), 0, f, from, 0, 5, 0, 0, unix.EBADF},
		{"flags", f, from, 0, to, dest, 0, 5, 1, 0, unix.EINVAL},
		{"offset", f, from, 1 << 63, to, dest, 0, 5, 0, 0, unix.EINVAL},
		{"offset there", f, from, 0, to, dest, 1 << 63, 5, 0, 0, unix.EINVAL},
		{"handle", f, from + 99, 0, to, dest, 0, 5, 0, 0, unix.EBADF},
		{"handle there", f, from, 0, to, dest + 99, 0, 5, 0, 0, unix.EBADF},
		{"handle of another", f, from, 0, to, from, 0, 5, 0, 0, unix.EBADF},
		{"node there", f, from, 0, to + 99, dest, 0, 5, 0, 0, unix.ESTALE},
		{"root there", f, from, 0, rootID, dest, 0, 5, 0, 0, unix.ESTALE},
	} {
		if size, err := g.copyRange(tt.node, tt.fh, tt.off, tt.node2, tt.fh2, tt.at, tt.n, tt.flags); !errors.Is(err, tt.want) || size != tt.size {
			t.Errorf("%s: %d, %v, want %d, %v", tt.what, size, err, tt.size, tt.want)
		}
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "f"): "0123456789012", filepath.Join(dir, "g"): "a234589", filepath.Join(other, "h"): "01234",
	} {
		if b, err := os.ReadFile(path); string(b) != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", path, b, err, want)
		}
	}
	if err := unix.Chmod(filepath.Join(dir, "g"), 0o4755); err != nil {
		t.Fatal(err)
	}
	g.uid = 1000
	if _, err := g.copyRange(f, from, 0, to, dest, 0, 1, 0); err != nil {
		t.Error(err)
	}
	if a, err := g.getattr(to); err != nil || a.mode != unix.S_IFREG|0o755 {
		t.Errorf("mode %o, %v", a.mode, err)
	}
}

// TestCopyMuch has a request to copy more than one may.
func TestCopyMuch(t *testing.T) {
	dir := folder(t, "f", "", "g", "")
	const size = 1 << 30
	if err := os.Truncate(filepath.Join(dir, "f"), size); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir})
	f, to := g.walk("s", "f").node, g.walk("s", "g").node
	n, err := g.copyRange(f, g.open(f, unix.O_RDONLY), 0, to, g.open(to, unix.O_WRONLY), 0, size, 0)
	if err != nil || n == 0 || n > 64<<20 {
		t.Errorf("copied %d, %v", n, err)
	}
}

func TestSyncfs(t *testing.T) {
	dir := folder(t, "f", strings.Repeat("data", 1000))
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir}, hostfs.Share{Name: "t", Path: dir})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := g.call(opSyncfs, rootID, uint64(0)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if err := g.s.Remove("t"); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	_, err := g.call(opSyncfs, rootID, uint32(0))
	wantErr(t, "short", err, unix.EINVAL)
	if err := g.s.Remove("s"); err != nil {
		t.Fatal(err)
	}
	_, err = g.call(opSyncfs, rootID, uint64(0))
	wantErr(t, "without a share", err, nil)
}
