package virtiofs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// TestNames sends what is not the name of a file by whatever takes one.
func TestNames(t *testing.T) {
	outside := folder(t, "secret", "")
	sh := source(t, "a", "text", "d/b", "")
	if err := os.Symlink(outside, filepath.Join(sh.Path, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/fd/0", filepath.Join(sh.Path, "magic")); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, Config{}, sh)
	src, a, d := g.walk("src"), g.walk("src", "a"), g.walk("src", "d")
	for _, tt := range []struct {
		name string
		want error
	}{
		{"", unix.EINVAL},
		{".", unix.EINVAL},
		{"..", unix.EINVAL},
		{"../src", unix.EINVAL},
		{"d/b", unix.EINVAL},
		{"/etc", unix.EINVAL},
		{"out/secret", unix.EINVAL},
		{strings.Repeat("n", 256), unix.ENAMETOOLONG},
		{strings.Repeat("n", 60000), unix.ENAMETOOLONG},
	} {
		for i, op := range []struct {
			op   uint32
			args []byte
		}{
			{opLookup, ints(tt.name)},
			{opMkdir, ints(uint64(0), tt.name)},
			{opMknod, ints(uint64(0), uint64(0), tt.name)},
			{opSymlink, ints(tt.name, "x")},
			{opUnlink, ints(tt.name)},
			{opRmdir, ints(tt.name)},
			{opRename, ints(d.node, tt.name, "x")},
			{opRename, ints(d.node, "a", tt.name)},
			{opRename2, ints(d.node, uint64(0), tt.name, "x")},
			{opRename2, ints(d.node, uint64(unix.RENAME_EXCHANGE), "a", tt.name)},
			{opLink, ints(a.node, tt.name)},
			{opCreate, ints(uint64(0), uint64(0), tt.name)},
		} {
			_, err := g.call(op.op, src.node, op.args)
			wantErr(t, fmt.Sprintf("%d, opcode %d, %.10q", i, op.op, tt.name), err, tt.want)
		}
	}
	for _, name := range []string{"out", "magic"} {
		l := g.walk("src", name)
		if l.mode&unix.S_IFMT != unix.S_IFLNK {
			t.Errorf("%s: mode %#o", name, l.mode)
		}
		for _, op := range []uint32{opOpen, opOpendir} {
			if _, err := g.call(op, l.node, uint32(0), uint32(0)); err == nil {
				t.Errorf("%s was opened", name)
			}
		}
		_, err := g.call(opLookup, l.node, "secret")
		wantErr(t, "LOOKUP beneath "+name, err, unix.ENOTDIR)
	}
	if target := g.must(g.call(opReadlink, g.walk("src", "out").node)).b; string(target) != outside {
		t.Errorf("the link is %q", target)
	}
	_, err := g.call(opReadlink, a.node)
	wantErr(t, "READLINK of a file", err, unix.EINVAL)
	_, err = g.callFor(3, opReadlink, g.walk("src", "out").node, nil)
	wantErr(t, "READLINK with too little room", err, unix.EINVAL)
	g.counts()
}

// TestLengths sends requests that are cut, or longer than they may be.
func TestLengths(t *testing.T) {
	sh := source(t, "a", "text")
	g := newGuest(t, Config{}, sh)
	src, a := g.walk("src"), g.walk("src", "a")
	fh := g.open(a.node, unix.O_RDWR)
	dh := g.opendir(src.node)
	for _, whole := range []struct {
		op   uint32
		node uint64
		args []byte
	}{
		{opLookup, src.node, ints("a")},
		{opGetattr, a.node, ints(uint64(0), uint64(0))},
		{opSetattr, a.node, make([]byte, 88)},
		{opSymlink, src.node, ints("l", "to")},
		{opMknod, src.node, ints(uint64(0o644), uint64(0), "m")},
		{opMkdir, src.node, ints(uint64(0o755), "k")},
		{opUnlink, src.node, ints("m")},
		{opRmdir, src.node, ints("k")},
		{opRename, src.node, ints(src.node, "l", "o")},
		{opRename2, src.node, ints(src.node, uint64(0), "o", "l")},
		{opLink, src.node, ints(a.node, "i")},
		{opOpen, a.node, ints(uint64(0))},
		{opRead, a.node, readIn(fh, 0, 4)},
		{opWrite, a.node, writeIn(fh, 0, "text", 0, 0)},
		{opFsync, a.node, ints(fh, uint64(0))},
		{opFlush, a.node, ints(fh, uint64(0), uint64(1))},
		{opOpendir, src.node, ints(uint64(0))},
		{opReaddir, src.node, readIn(dh, 0, 4096)},
		{opReleasedir, src.node, ints(dh, uint64(0), uint64(0))},
		{opStatfs, src.node, nil},
		{opReadlink, 0, nil},
		{opCreate, src.node, ints(uint64(2), uint64(0), "c")},
		{opRelease, a.node, ints(fh, uint64(0), uint64(0))},
		{opLookup, rootID, ints("src")},
		{opReaddir, rootID, readIn(0, 0, 4096)},
	} {
		if whole.op == opReadlink {
			whole.node = g.lookup(src.node, "l").node
		}
		for n := range whole.args {
			_, err := g.call(whole.op, whole.node, whole.args[:n])
			wantErr(t, fmt.Sprintf("opcode %d cut to %d bytes", whole.op, n), err, unix.EINVAL)
		}
		_, err := g.call(whole.op, whole.node, whole.args, []byte{0})
		wantErr(t, fmt.Sprintf("opcode %d with one byte more", whole.op), err, unix.EINVAL)
		in := g.message(whole.op, whole.node, whole.args)
		for _, n := range []uint32{0, 39, uint32(len(in)) - 1, uint32(len(in)) + 1, 1 << 31} {
			copy(in, ints(n))
			out := make([]byte, outHeaderSize+roomy)
			b, err := g.send([][]byte{in}, [][]byte{out}, out)
			if err != nil {
				t.Fatal(err)
			}
			_, err = decodeAnswer(t, in, b)
			wantErr(t, fmt.Sprintf("opcode %d that says %d bytes", whole.op, n), err, unix.EINVAL)
		}
		g.must(g.call(whole.op, whole.node, whole.args))
	}
	_, err := g.call(opInit, 0, initIn(7, 37, 0)[:15])
	wantErr(t, "INIT that is cut", err, unix.EINVAL)
	_, err = g.call(opLookup, src.node, make([]byte, maxArgs+1))
	wantErr(t, "a request that is too long", err, unix.EINVAL)
}

// TestHeaders checks that what cannot be answered ends the device.
func TestHeaders(t *testing.T) {
	g := newGuest(t, Config{}, source(t))
	in := g.message(opGetattr, rootID, make([]byte, 16))
	for _, tt := range []struct {
		name    string
		in, out int
	}{
		{"nothing", 0, 100}, {"part of a header", 39, 100}, {"no room", 56, 0}, {"little room", 56, 15},
	} {
		out := make([]byte, tt.out)
		if _, err := g.send([][]byte{in[:tt.in]}, [][]byte{out}, out); err == nil {
			t.Errorf("%s: the device goes on", tt.name)
		}
	}
	for room := range 96 + 8 { // of an answer with attributes
		_, err := g.callFor(room, opGetattr, rootID, make([]byte, 16))
		wantErr(t, fmt.Sprint("room for ", room), err, unix.EINVAL)
	}
	if _, err := g.callFor(104, opGetattr, rootID, make([]byte, 16)); err != nil {
		t.Error(err)
	}
}

func TestBeforeInit(t *testing.T) {
	g := &guest{t: t, s: newServer(Config{})}
	defer g.s.Close()
	if err := g.s.Add(source(t, "a", "text")); err != nil {
		t.Fatal(err)
	}
	for op := range uint32(opCount + 2) {
		if op == opInit || op == opForget || op == opBatchForget {
			continue
		}
		for _, node := range []uint64{0, rootID, 2, 3} {
			_, err := g.call(op, node, make([]byte, 24))
			wantErr(t, fmt.Sprint("opcode ", op), err, unix.EIO)
		}
	}
	g.tell(opForget, 2, uint64(1))
	g.tell(opBatchForget, 0, uint32(1), uint32(0), uint64(2), uint64(1))
	g.init()
	g.walk("src", "a")
}

func TestAllowedNames(t *testing.T) {
	dir := folder(t, "seen", "text", "hidden", "", "d/hidden", "")
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir, AllowedNames: []string{"seen", "d", "later"}})
	s, d := g.walk("s"), g.walk("s", "d")
	for _, tt := range []struct {
		op   uint32
		node uint64
		args []byte
		want error
	}{
		{opLookup, s.node, ints("hidden"), unix.ENOENT},
		{opUnlink, s.node, ints("hidden"), unix.ENOENT},
		{opRename, s.node, ints(d.node, "hidden", "x"), unix.ENOENT},
		{opRename, s.node, ints(s.node, "seen", "hidden"), unix.EPERM},
		{opRename2, s.node, ints(s.node, uint64(unix.RENAME_EXCHANGE), "seen", "hidden"), unix.ENOENT},
		{opRename, d.node, ints(s.node, "hidden", "new"), unix.EPERM},
		{opMkdir, s.node, ints(uint64(0o755), "new"), unix.EPERM},
		{opCreate, s.node, ints(uint32(2), uint32(0o644), uint64(0), "new"), unix.EPERM},
		{opCreate, s.node, ints(uint32(2), uint32(0o644), uint64(0), "hidden"), unix.EPERM},
		{opLink, s.node, ints(g.lookup(s.node, "seen").node, "hidden"), unix.EPERM},
	} {
		_, err := g.call(tt.op, tt.node, tt.args)
		wantErr(t, fmt.Sprintf("opcode %d %q", tt.op, tt.args), err, tt.want)
	}
	for _, name := range g.names(s.node, g.opendir(s.node), 4096) {
		if name == "hidden" {
			t.Error("a name is seen that is not allowed")
		}
	}
	g.must(g.call(opCreate, s.node, uint32(2), uint32(0o644), uint64(0), "later"))
	g.lookup(d.node, "hidden")
}

// TestSpecialFiles checks that what is no file, folder or link is neither made
// nor opened.
func TestSpecialFiles(t *testing.T) {
	sh := source(t)
	if err := unix.Mkfifo(filepath.Join(sh.Path, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, Config{}, sh)
	src, fifo := g.walk("src"), g.walk("src", "fifo")
	if fifo.mode != unix.S_IFIFO|0o600 {
		t.Errorf("mode %#o", fifo.mode)
	}
	for _, flags := range []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR} {
		_, err := g.call(opOpen, fifo.node, flags, uint32(0))
		wantErr(t, "OPEN", err, unix.EPERM)
	}
	for _, kind := range []uint32{unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFMT} {
		_, err := g.call(opMknod, src.node, kind|0o644, uint32(0x103), uint64(0), "new")
		wantErr(t, fmt.Sprintf("MKNOD %#o", kind), err, unix.EPERM)
	}
	g.must(g.call(opMknod, src.node, uint32(unix.S_IFREG|0o644), uint32(0), uint64(0), "new"))
	_, err := g.call(opRename2, src.node, src.node, uint64(unix.RENAME_WHITEOUT), "new", "newer")
	wantErr(t, "RENAME_WHITEOUT", err, unix.EINVAL)
	g.must(g.call(opUnlink, src.node, "fifo"))
}

// TestTwoShares has nodes of one share used with the other.
func TestTwoShares(t *testing.T) {
	g := newGuest(t, Config{}, hostfs.Share{Name: "one", Path: folder(t, "a", "text")}, hostfs.Share{Name: "two", Path: folder(t, "a", "")})
	one, two := g.walk("one"), g.walk("two")
	a, b := g.walk("one", "a"), g.walk("two", "a")
	for _, tt := range []struct {
		op   uint32
		args []byte
	}{
		{opRename, ints(two.node, "a", "b")}, {opRename2, ints(two.node, uint64(0), "a", "b")}, {opLink, ints(b.node, "b")},
	} {
		_, err := g.call(tt.op, one.node, tt.args)
		wantErr(t, fmt.Sprint("opcode ", tt.op), err, unix.EXDEV)
	}
	fh := g.open(a.node, unix.O_RDONLY)
	_, err := g.read(b.node, fh, 0, 4)
	wantErr(t, "READ by a handle of the other", err, unix.EBADF)
	if err := g.s.Remove("two"); err != nil {
		t.Fatal(err)
	}
	if got, err := g.read(a.node, fh, 0, 4); got != "text" || err != nil {
		t.Errorf("READ after the other was removed: %q, %v", got, err)
	}
	_, err = g.call(opRename, one.node, two.node, "a", "b")
	wantErr(t, "RENAME into what was removed", err, unix.ESTALE)
	_, err = g.call(opLink, one.node, b.node, "b")
	wantErr(t, "LINK of what was removed", err, unix.ESTALE)
}

func TestMaking(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("files are given away by root only")
	}
	sh := source(t, "a", "")
	setgid := filepath.Join(sh.Path, "g")
	for _, err := range []error{os.Mkdir(setgid, 0o755), os.Chown(setgid, 0, 77), os.Chmod(setgid, 0o755|os.ModeSetgid)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	g := newGuest(t, Config{}, sh)
	g.uid = 1234
	src, dir := g.walk("src"), g.walk("src", "g")
	for _, tt := range []struct {
		name  string
		group uint32
		in    uint64
	}{{"as the guest says", 1234, src.node}, {"as the folder says", 77, dir.node}} {
		f, fh := g.create(tt.in, "f", unix.O_RDWR|unix.O_EXCL, 0o666)
		g.close(f.node, fh)
		d := g.made(g.call(opMkdir, tt.in, uint32(0o777), uint32(0), "d"))
		l := g.made(g.call(opSymlink, tt.in, "l", "target"))
		m := g.made(g.call(opMknod, tt.in, uint32(unix.S_IFREG|0o600), uint32(0), uint64(0), "m"))
		for i, e := range []entry{f, d, l, m} {
			if e.uid != 1234 || e.gid != tt.group {
				t.Errorf("%s, %d: owner %d, %d", tt.name, i, e.uid, e.gid)
			}
		}
		if f.mode != unix.S_IFREG|0o666 || d.mode&0o777 != 0o777 || m.mode != unix.S_IFREG|0o600 {
			t.Errorf("%s: modes %#o, %#o, %#o", tt.name, f.mode, d.mode, m.mode)
		}
		for _, op := range []struct {
			op   uint32
			args []byte
		}{
			{opCreate, ints(uint32(unix.O_RDWR|unix.O_EXCL), uint32(0o666), uint64(0), "f")},
			{opMkdir, ints(uint64(0o755), "f")}, {opSymlink, ints("f", "x")}, {opMknod, ints(uint64(0o644), uint64(0), "f")},
			{opLink, ints(f.node, "f")}, {opRename2, ints(tt.in, uint64(unix.RENAME_NOREPLACE), "m", "f")},
		} {
			_, err := g.call(op.op, tt.in, op.args)
			wantErr(t, fmt.Sprint("opcode ", op.op), err, unix.EEXIST)
		}
		_, err := g.call(opUnlink, tt.in, "d")
		wantErr(t, "UNLINK of a folder", err, unix.EISDIR)
		_, err = g.call(opRmdir, tt.in, "f")
		wantErr(t, "RMDIR of a file", err, unix.ENOTDIR)
		g.create(d.node, "x", unix.O_RDWR, 0o600)
		_, err = g.call(opRmdir, tt.in, "d")
		wantErr(t, "RMDIR of a folder with files", err, unix.ENOTEMPTY)
		_, err = g.call(opUnlink, tt.in, "none")
		wantErr(t, "UNLINK of nothing", err, unix.ENOENT)
	}
	_, err := g.call(opSymlink, src.node, "long", strings.Repeat("t", maxTarget+1))
	wantErr(t, "SYMLINK", err, unix.ENAMETOOLONG)
	g.made(g.call(opSymlink, src.node, "long", strings.Repeat("t", maxTarget)))
	if b := g.must(g.call(opReadlink, g.walk("src", "long").node)).b; len(b) != maxTarget {
		t.Errorf("a target of %d bytes", len(b))
	}
	g.counts()
}
