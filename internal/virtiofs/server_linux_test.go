package virtiofs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

func source(t testing.TB, files ...string) hostfs.Share {
	t.Helper()
	return hostfs.Share{Name: "src", Path: folder(t, files...)}
}

func TestInit(t *testing.T) {
	for _, tt := range []struct {
		name         string
		major, minor uint32
		want         error
		wantMinor    uint32
	}{
		{"as new as this", 7, 37, nil, 37},
		{"newer", 7, 45, nil, 37},
		{"older", 7, 31, nil, 31},
		{"too old", 7, 30, unix.EPROTO, 0},
		{"another", 6, 40, unix.EPROTO, 0},
		{"of the future", 8, 1, nil, 37},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuest(t, Config{})
			b, err := g.call(opInit, 0, initIn(tt.major, tt.minor, 0xffffffff))
			if wantErr(t, "INIT", err, tt.want); err != nil {
				return
			}
			d := decoder{b: b}
			if len(b) != 64 || d.u32() != 7 || d.u32() != tt.wantMinor {
				t.Fatalf("answer %x", b)
			}
			if tt.major > 7 {
				_, err := g.getattr(rootID)
				wantErr(t, "before the INIT of a version that both speak", err, unix.EIO)
				return
			}
			if ahead, flags := d.u32(), d.u32(); ahead != 1<<17 || flags != initFlags {
				t.Errorf("max_readahead %d, flags %#x", ahead, flags)
			}
			if d.u32(); d.u32() != 1<<20 || d.u32() != 1 || d.u32() != 256 {
				t.Errorf("answer %x", b)
			}
		})
	}
	g := newGuest(t, Config{})
	b := g.must(g.call(opInit, 0, initIn(7, 37, initPosixLocks))).b
	if d := (decoder{b: b[12:]}); d.u32() != initPosixLocks {
		t.Error("flags that the guest does not have")
	}
}

func TestSessions(t *testing.T) {
	g := newGuest(t, Config{}, source(t, "a", "text"))
	a := g.walk("src", "a")
	fh := g.open(a.node, unix.O_RDONLY)
	held := g.s.config.Files.Held()
	if held != 3 {
		t.Errorf("%d descriptors, want 3", held)
	}
	g.must(g.call(opDestroy, 0))
	_, err := g.getattr(a.node)
	wantErr(t, "GETATTR after DESTROY", err, unix.EIO)
	if n := g.s.config.Files.Held(); n != 1 {
		t.Errorf("%d descriptors after DESTROY, want 1", n)
	}
	for range 2 { // also without a DESTROY before
		g.init()
		_, err = g.getattr(a.node)
		wantErr(t, "GETATTR of a node of before", err, unix.ESTALE)
		_, err = g.read(a.node, fh, 0, 10)
		wantErr(t, "READ by a handle of before", err, unix.ESTALE)
		b := g.walk("src", "a")
		if b.node == a.node {
			t.Error("a node number is used twice")
		}
		_, err = g.read(b.node, fh, 0, 10)
		wantErr(t, "READ of the node by a handle of before", err, unix.EBADF)
		a, fh = b, g.open(b.node, unix.O_RDONLY)
	}
}

func TestRoot(t *testing.T) {
	g := newGuest(t, Config{}, hostfs.Share{Name: "one", Path: folder(t)}, hostfs.Share{Name: "two", Path: folder(t)})
	a, err := g.getattr(rootID)
	if err != nil || a.mode != unix.S_IFDIR|0o555 || a.nlink != 4 || a.ino != rootID {
		t.Errorf("root: %+v, %v", a, err)
	}
	for _, size := range []int{64, 4096} {
		if got := g.names(rootID, g.opendir(rootID), size); !slices.Equal(got, []string{".", "..", "one", "two"}) {
			t.Errorf("entries by %d bytes: %q", size, got)
		}
	}
	if e := g.lookup(rootID, "two"); e.node == rootID || e.entryValid != 0 || e.mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("two: %+v", e)
	}
	for _, name := range []string{"three", "", ".", "..", "one/", strings.Repeat("x", 300)} {
		_, err := g.call(opLookup, rootID, name)
		wantErr(t, "LOOKUP "+name, err, unix.ENOENT)
	}
	g.must(g.call(opStatfs, rootID))
	g.must(g.call(opReleasedir, rootID, uint64(0), uint32(0), uint32(0), uint64(0)))
	one := g.walk("one").node
	for _, tt := range []struct {
		op   uint32
		want error
		args []byte
	}{
		{opSetattr, unix.EROFS, make([]byte, 88)},
		{opMkdir, unix.EROFS, ints(uint32(0o755), uint32(0), "three")},
		{opMknod, unix.EROFS, ints(uint32(0o644), make([]byte, 12), "three")},
		{opSymlink, unix.EROFS, ints("three", "one")},
		{opUnlink, unix.EROFS, ints("one")},
		{opRmdir, unix.EROFS, ints("one")},
		{opRename, unix.EROFS, ints(uint64(rootID), "one", "three")},
		{opRename2, unix.EROFS, ints(one, uint32(0), uint32(0), "two", "three")},
		{opLink, unix.EROFS, ints(one, "three")},
		{opCreate, unix.EROFS, ints(uint32(unix.O_RDWR), uint32(0o644), uint64(0), "three")},
		{opOpen, unix.EISDIR, ints(uint32(0), uint32(0))},
		{opRead, unix.EBADF, readIn(0, 0, 10)},
		{opWrite, unix.EBADF, writeIn(0, 0, "x", 0, 0)},
		{opRelease, unix.EBADF, make([]byte, 24)},
		{opAccess, unix.ENOSYS, make([]byte, 8)},
		{7, unix.ENOSYS, nil},
	} {
		_, err := g.call(tt.op, rootID, tt.args)
		wantErr(t, "opcode on the root", err, tt.want)
		if t.Failed() {
			t.Fatal(tt.op)
		}
	}
	// From a share into it.
	_, err = g.call(opRename, one, uint64(rootID), "x", "y")
	wantErr(t, "RENAME into the root", err, unix.EXDEV)
	_, err = g.call(opLink, one, uint64(rootID), "y")
	wantErr(t, "LINK of the root", err, unix.EPERM)
}

func TestShares(t *testing.T) {
	g := newGuest(t, Config{}, source(t, "dir/file", "text"))
	if err := g.s.Add(hostfs.Share{Name: "src", Path: t.TempDir()}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second share of that name: %v", err)
	}
	for _, name := range []string{"", "..", "a/b", "a\x00", strings.Repeat("x", 256)} {
		if err := g.s.Add(hostfs.Share{Name: name, Path: t.TempDir()}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("share %q: %v", name, err)
		}
	}
	if err := g.s.Add(hostfs.Share{Name: "none", Path: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := g.s.Remove("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removing what is not there: %v", err)
	}
	src, dir, file := g.walk("src"), g.walk("src", "dir"), g.walk("src", "dir", "file")
	fh := g.open(file.node, unix.O_RDWR)
	if err := g.s.Remove("src"); err != nil {
		t.Fatal(err)
	}
	if n := g.s.config.Files.Held(); n != 0 {
		t.Errorf("%d descriptors after Remove", n)
	}
	for _, n := range []uint64{src.node, dir.node, file.node} {
		_, err := g.getattr(n)
		wantErr(t, "GETATTR", err, unix.ESTALE)
	}
	_, err := g.read(file.node, fh, 0, 4)
	wantErr(t, "READ", err, unix.ESTALE)
	_, err = g.call(opRelease, file.node, fh, uint32(0), uint32(0), uint64(0))
	wantErr(t, "RELEASE", err, unix.EBADF)
	g.tell(opForget, file.node, uint64(5))
	if err := g.s.Add(source(t)); err != nil {
		t.Fatal(err)
	}
	if again := g.walk("src"); again.node == src.node {
		t.Error("another share has the number of the first")
	}
	if err := g.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := g.s.Add(hostfs.Share{Name: "late", Path: t.TempDir()}); err == nil {
		t.Error("a share was added after Close")
	}
}

// TestNumbers checks that files of two file systems do not look the same.
func TestNumbers(t *testing.T) {
	one, two := folder(t), "/dev/shm"
	var a, b unix.Stat_t
	if err := errors.Join(unix.Stat(one, &a), unix.Stat(two, &b)); err != nil {
		t.Fatal(err)
	}
	if a.Dev == b.Dev {
		t.Fatal("the temporary folder is on /dev/shm")
	}
	g := newGuest(t, Config{}, hostfs.Share{Name: "one", Path: one}, hostfs.Share{Name: "two", Path: two, AllowedNames: []string{}},
		hostfs.Share{Name: "same", Path: one})
	if got := g.walk("one").ino; got != a.Ino {
		t.Errorf("the first share's folder is %d, and not as on the host %d", got, a.Ino)
	}
	if got := g.walk("two").ino; got == b.Ino {
		t.Errorf("the folder of another file system is %d, as on the host", got)
	}
	if g.walk("same").ino != a.Ino {
		t.Error("one folder has two numbers")
	}
	if err := os.Mkdir(filepath.Join(one, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Close waits for who removes a share meanwhile.
func TestCloseWhileRemoving(t *testing.T) {
	g := newGuest(t, Config{}, source(t, "f", ""))
	u, err := g.s.use(g.walk("src", "f").node) // as a request does
	if err != nil {
		t.Fatal(err)
	}
	removed, closed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(removed)
		if err := g.s.Remove("src"); err != nil {
			t.Error(err)
		}
	}()
	<-u.file.Tree().Ended()
	var released atomic.Bool
	go func() {
		defer close(closed)
		g.s.Close()
		if !released.Load() {
			t.Error("Close did not wait for a request")
		}
	}()
	for over := false; !over; runtime.Gosched() {
		g.s.mu.Lock()
		over = g.s.closed
		g.s.mu.Unlock()
	}
	for range 1000 {
		runtime.Gosched()
	}
	released.Store(true)
	u.release()
	<-closed
	<-removed
}
