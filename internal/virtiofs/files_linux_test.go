package virtiofs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

func TestAttributes(t *testing.T) {
	sh := source(t, "a", "text", "dir/b", "")
	path := filepath.Join(sh.Path, "a")
	g := newGuest(t, Config{}, sh)
	a := g.walk("src", "a")
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	check := func(got attr) {
		t.Helper()
		want := attr{
			st.Ino, uint64(st.Size), uint64(st.Blocks),
			uint64(st.Atim.Sec), uint64(st.Mtim.Sec), uint64(st.Ctim.Sec),
			uint32(st.Atim.Nsec), uint32(st.Mtim.Nsec), uint32(st.Ctim.Nsec),
			st.Mode, uint32(st.Nlink), st.Uid, st.Gid, 0, uint32(st.Blksize), 0,
		}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	check(a.attr)
	if a.entryValid != valid || a.attrValid != valid {
		t.Errorf("valid for %d and %d", a.entryValid, a.attrValid)
	}
	fh := g.open(a.node, unix.O_RDWR)
	d := g.must(g.call(opGetattr, a.node, uint32(getattrHandle), uint32(0), fh))
	d.bytes(16)
	check(d.attr())
	_, err := g.call(opGetattr, a.node, uint32(getattrHandle), uint32(0), fh+1)
	wantErr(t, "GETATTR by no handle", err, unix.EBADF)

	for _, byHandle := range []bool{false, true} {
		set := func(bits uint32, size uint64, atime, mtime uint64, mode uint32) error {
			h := uint64(0)
			if byHandle {
				bits, h = bits|attrHandle, fh
			}
			b, err := g.call(opSetattr, a.node, bits, uint32(0), h, size, uint64(0), atime, mtime, uint64(0),
				uint32(5), uint32(6), uint32(0), mode, uint32(0), uint32(1000), uint32(1001), uint32(0))
			if err != nil {
				return err
			}
			if err := unix.Stat(path, &st); err != nil {
				return err
			}
			d := decoder{b: b}
			d.bytes(16)
			check(d.attr())
			return nil
		}
		wantErr(t, "size", set(attrSize, 2, 0, 0, 0), nil)
		wantErr(t, "mode", set(attrMode, 0, 0, 0, 0o4711|unix.S_IFREG), nil)
		if st.Size != 2 || st.Mode != unix.S_IFREG|0o4711 {
			t.Errorf("size %d, mode %#o", st.Size, st.Mode)
		}
		wantErr(t, "size and privilege", set(attrSize|attrKillSUIDGID, 3, 0, 0, 0), nil)
		if st.Mode != unix.S_IFREG|0o711 {
			t.Errorf("mode %#o", st.Mode)
		}
		wantErr(t, "times", set(attrATime|attrMTime, 0, 7, 8, 0), nil)
		if st.Atim != (unix.Timespec{Sec: 7, Nsec: 5}) || st.Mtim != (unix.Timespec{Sec: 8, Nsec: 6}) {
			t.Errorf("times %v, %v", st.Atim, st.Mtim)
		}
		wantErr(t, "present", set(attrATime|attrATimeNow, 0, 7, 8, 0), nil)
		if st.Atim.Sec < 1e9 || st.Mtim.Sec != 8 {
			t.Errorf("times %v, %v", st.Atim, st.Mtim)
		}
		wantErr(t, "too long", set(attrSize, 1<<63, 0, 0, 0), unix.EINVAL)
		if os.Getuid() == 0 {
			wantErr(t, "owner", set(attrUID|attrGID, 0, 0, 0, 0), nil)
			if st.Uid != 1000 || st.Gid != 1001 {
				t.Errorf("owner %d, %d", st.Uid, st.Gid)
			}
		}
	}
	dir := g.walk("src", "dir")
	b := make([]byte, 88)
	b[0], b[16] = attrSize, 1
	_, err = g.call(opSetattr, dir.node, b)
	wantErr(t, "size of a folder", err, unix.EISDIR)
	if d := g.must(g.call(opStatfs, a.node)); d.u64() == 0 || len(d.b) != 72 {
		t.Error("a file system without blocks")
	}
}

func TestReadAndWrite(t *testing.T) {
	sh := source(t)
	g := newGuest(t, Config{}, sh)
	src := g.walk("src")
	f, fh := g.create(src.node, "f", unix.O_RDWR, unix.S_IFREG|0o640)
	if f.mode != unix.S_IFREG|0o640 {
		t.Errorf("mode %#o", f.mode)
	}
	text := strings.Repeat("0123456789", 1000)
	if n, err := g.write(f.node, fh, 5, text); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
	for _, tt := range []struct {
		off  uint64
		size int
		want string
	}{
		{0, 10, "\x00\x00\x00\x00\x0001234"}, {5, 0, ""}, {10003, 10, "89"}, {10005, 10, ""}, {1 << 62, 1, ""},
		{5, len(text), text},
	} {
		if got, err := g.read(f.node, fh, tt.off, tt.size); got != tt.want || err != nil {
			t.Errorf("%d bytes at %d: %d, %v", tt.size, tt.off, len(got), err)
		}
	}
	_, err := g.read(f.node, fh, 1<<63, 1)
	wantErr(t, "READ at a negative offset", err, unix.EINVAL)
	_, err = g.write(f.node, fh, 1<<63, "x")
	wantErr(t, "WRITE at a negative offset", err, unix.EINVAL)
	_, err = g.callFor(9, opRead, f.node, readIn(fh, 0, 10))
	wantErr(t, "READ of more than there is room for", err, unix.EINVAL)
	_, err = g.callFor(maxData+1, opRead, f.node, readIn(fh, 0, maxData+1))
	wantErr(t, "READ of more than was agreed on", err, unix.EINVAL)
	for _, less := range []int{-1, 1} {
		b := writeIn(fh, 0, "four", 0, 0)
		b[16] = byte(4 + less)
		_, err = g.call(opWrite, f.node, b)
		wantErr(t, "WRITE of another size", err, unix.EINVAL)
	}

	ro := g.open(f.node, unix.O_RDONLY)
	_, err = g.write(f.node, ro, 0, "x")
	wantErr(t, "WRITE by a handle for reading", err, unix.EBADF)
	wo := g.open(f.node, unix.O_WRONLY|unix.O_TRUNC)
	_, err = g.read(f.node, wo, 0, 1)
	wantErr(t, "READ by a handle for writing", err, unix.EBADF)
	if a, _ := g.getattr(f.node); a.size != 0 {
		t.Errorf("%d bytes after O_TRUNC", a.size)
	}
	for _, op := range []uint32{opFlush, opFsync, opFlush} {
		_, err = g.call(op, f.node, make([]byte, map[uint32]int{opFlush: 24, opFsync: 16}[op]))
		wantErr(t, "no handle", err, unix.EBADF)
	}
	g.must(g.call(opFsync, f.node, fh, uint32(1), uint32(0)))
	g.must(g.call(opFlush, f.node, fh, uint32(0), uint32(0), uint64(9)))
	g.close(f.node, fh)
	_, err = g.call(opRelease, f.node, fh, uint32(0), uint32(0), uint64(0))
	wantErr(t, "a second RELEASE", err, unix.EBADF)
	_, err = g.read(f.node, fh, 0, 1)
	wantErr(t, "READ after RELEASE", err, unix.EBADF)
	_, err = g.read(src.node, ro, 0, 1)
	wantErr(t, "READ by the handle of another node", err, unix.EBADF)
}

// TestAppend checks that it is the request that says where a write goes: the
// guest can set and clear O_APPEND of an open file, and has pages written back
// by any handle.
func TestAppend(t *testing.T) {
	sh := source(t, "a", "12345")
	g := newGuest(t, Config{}, sh)
	a := g.walk("src", "a")
	for i, tt := range []struct {
		open, write int
		how         uint32
		want        string
	}{
		{unix.O_APPEND, unix.O_APPEND, 0, "12345x"},
		{0, unix.O_APPEND, 0, "12345xx"},
		{unix.O_APPEND, 0, 0, "x2345xx"},
		{unix.O_APPEND, unix.O_APPEND, writeCache, "x2345xx"},
	} {
		fh := g.open(a.node, unix.O_RDWR|tt.open)
		g.must(g.call(opWrite, a.node, writeIn(fh, 0, "x", tt.how, uint32(unix.O_RDWR|tt.write))))
		if got, err := g.read(a.node, fh, 0, 100); got != tt.want || err != nil {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
}

func TestPrivilege(t *testing.T) {
	sh := source(t, "a", "text")
	path := filepath.Join(sh.Path, "a")
	g := newGuest(t, Config{}, sh)
	src, a := g.walk("src"), g.walk("src", "a")
	fh := g.open(a.node, unix.O_RDWR)
	for _, tt := range []struct {
		name       string
		mode, want uint32
		do         func() error
	}{
		{"write of root", 0o6755, 0o6755, func() error {
			_, err := g.write(a.node, fh, 0, "x")
			return err
		}},
		{"write of a user", 0o6755, 0o755, func() error {
			_, err := g.call(opWrite, a.node, writeIn(fh, 0, "x", writeKillSUIDGID, 0))
			return err
		}},
		{"group that cannot run it", 0o6745, 0o2745, func() error {
			_, err := g.call(opWrite, a.node, writeIn(fh, 0, "x", writeKillSUIDGID, 0))
			return err
		}},
		{"truncating", 0o6755, 0o755, func() error {
			_, err := g.call(opOpen, a.node, uint32(unix.O_RDWR|unix.O_TRUNC), uint32(openKillSUIDGID))
			return err
		}},
		{"creating what is there", 0o6755, 0o755, func() error {
			_, err := g.call(opCreate, src.node, uint32(unix.O_RDWR|unix.O_TRUNC), uint32(0o644), uint32(0), uint32(openKillSUIDGID), "a")
			return err
		}},
		{"opening", 0o6755, 0o6755, func() error {
			_, err := g.call(opOpen, a.node, uint32(unix.O_RDWR), uint32(openKillSUIDGID))
			return err
		}},
	} {
		if err := unix.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		wantErr(t, tt.name, tt.do(), nil)
		if a, _ := g.getattr(a.node); a.mode != unix.S_IFREG|tt.want {
			t.Errorf("%s: mode %#o, want %#o", tt.name, a.mode, tt.want)
		}
	}
}

func TestFolders(t *testing.T) {
	sh := source(t, "dir/x", "")
	var want []string
	for i := range 500 {
		name := fmt.Sprintf("%03d%s", i, strings.Repeat("n", i%250))
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(sh.Path, "dir", name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want = append(want, "x", ".", "..")
	slices.Sort(want)
	g := newGuest(t, Config{}, sh)
	dir := g.walk("src", "dir")
	fh := g.opendir(dir.node)
	for _, size := range []int{288, 4096, 1 << 20} {
		got := g.names(dir.node, fh, size)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%d bytes at a time: %d names", size, len(got))
		}
	}
	_, err := g.callFor(24, opReaddir, dir.node, readIn(fh, 0, 24))
	wantErr(t, "no room for one", err, unix.EINVAL)
	_, err = g.callFor(100, opReaddir, dir.node, readIn(fh, 0, 101))
	wantErr(t, "READDIR of more than there is room for", err, unix.EINVAL)
	_, err = g.read(dir.node, fh, 0, 10)
	wantErr(t, "READ of a folder", err, unix.EISDIR)
	_, err = g.call(opOpen, dir.node, uint32(unix.O_RDONLY), uint32(0))
	wantErr(t, "OPEN of a folder", err, unix.EISDIR)
	x := g.lookup(dir.node, "x")
	_, err = g.call(opOpendir, x.node, uint32(0), uint32(0))
	wantErr(t, "OPENDIR of a file", err, unix.ENOTDIR)
	_, err = g.call(opLookup, x.node, "y")
	wantErr(t, "LOOKUP in a file", err, unix.ENOTDIR)
	xh := g.open(x.node, unix.O_RDONLY)
	_, err = g.callFor(4096, opReaddir, x.node, readIn(xh, 0, 4096))
	wantErr(t, "READDIR of a file", err, unix.ENOTDIR)
	g.must(g.call(opFsyncdir, dir.node, fh, uint32(0), uint32(0)))
	g.must(g.call(opReleasedir, dir.node, fh, uint32(0), uint32(0), uint64(0)))
	_, err = g.callFor(4096, opReaddir, dir.node, readIn(fh, 0, 4096))
	wantErr(t, "READDIR after RELEASEDIR", err, unix.EBADF)
}

// TestUnimplemented checks that the guest stops asking.
func TestUnimplemented(t *testing.T) {
	g := newGuest(t, Config{}, source(t))
	src := g.walk("src")
	for _, op := range []uint32{opAccess, opIoctl, opPoll, opBmap, opSetupMapping, opTmpfile, opInterrupt, 0, 7, 19, 44, 4096, 1 << 31} {
		_, err := g.call(op, src.node, make([]byte, 64))
		wantErr(t, fmt.Sprint("opcode ", op), err, unix.ENOSYS)
	}
}

func TestReadOnly(t *testing.T) {
	dir := folder(t, "a", "text", "d/b", "")
	g := newGuest(t, Config{}, hostfs.Share{Name: "ro", Path: dir, ReadOnly: true})
	ro, a, d := g.walk("ro"), g.walk("ro", "a"), g.walk("ro", "d")
	fh := g.open(a.node, unix.O_RDONLY)
	size := make([]byte, 88)
	size[0] = attrSize
	for _, tt := range []struct {
		name string
		op   uint32
		node uint64
		args []byte
		want error
	}{
		{"SETATTR", opSetattr, a.node, size, unix.EROFS},
		{"SETATTR of nothing", opSetattr, a.node, make([]byte, 88), unix.EROFS},
		{"MKDIR", opMkdir, ro.node, ints(uint64(0), "new"), unix.EROFS},
		{"MKNOD", opMknod, ro.node, ints(uint64(0), uint64(0), "new"), unix.EROFS},
		{"SYMLINK", opSymlink, ro.node, ints("new", "a"), unix.EROFS},
		{"UNLINK", opUnlink, ro.node, ints("a"), unix.EROFS},
		{"RMDIR", opRmdir, ro.node, ints("d"), unix.EROFS},
		{"RENAME", opRename, ro.node, ints(d.node, "a", "a"), unix.EROFS},
		{"RENAME2", opRename2, ro.node, ints(d.node, uint64(0), "a", "a"), unix.EROFS},
		{"LINK", opLink, ro.node, ints(a.node, "new"), unix.EROFS},
		{"OPEN to write", opOpen, a.node, ints(uint32(unix.O_WRONLY), uint32(0)), unix.EROFS},
		{"OPEN to read and write", opOpen, a.node, ints(uint32(unix.O_RDWR), uint32(0)), unix.EROFS},
		{"OPEN to truncate", opOpen, a.node, ints(uint32(unix.O_RDONLY|unix.O_TRUNC), uint32(0)), unix.EROFS},
		{"CREATE", opCreate, ro.node, ints(uint32(unix.O_RDONLY), uint32(0o644), uint64(0), "new"), unix.EROFS},
		{"CREATE of what is there", opCreate, ro.node, ints(uint32(unix.O_RDONLY), uint32(0o644), uint64(0), "a"), unix.EROFS},
		{"WRITE", opWrite, a.node, writeIn(fh, 0, "x", 0, 0), unix.EBADF},
		{"WRITE at the end", opWrite, a.node, writeIn(fh, 0, "x", 0, unix.O_APPEND), unix.EBADF},
		{"WRITE of a user", opWrite, a.node, writeIn(fh, 0, "x", writeKillSUIDGID, 0), unix.EBADF},
		{"SETXATTR", opSetxattr, a.node, ints(uint32(1), uint32(0), "user.x", []byte("v")), unix.EROFS},
		{"REMOVEXATTR", opRemovexattr, a.node, ints("user.x"), unix.EROFS},
		{"FALLOCATE", opFallocate, a.node, ints(fh, uint64(0), uint64(10), uint64(0)), unix.EBADF},
		{"COPY_FILE_RANGE", opCopyFileRange, a.node, ints(fh, uint64(0), a.node, fh, uint64(8), uint64(2), uint64(0)), unix.EBADF},
	} {
		_, err := g.call(tt.op, tt.node, tt.args)
		if err != tt.want && err != unix.EROFS {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "a")); string(b) != "text" || err != nil {
		t.Errorf("file is %q, %v", b, err)
	}
	if got, err := g.read(a.node, fh, 0, 10); got != "text" || err != nil {
		t.Errorf("READ: %q, %v", got, err)
	}
}
