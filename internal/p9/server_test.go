//go:build linux

package p9

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

func TestReadWrite(t *testing.T) {
	dir := t.TempDir()
	c := mount(t, Share{Path: dir})
	c.at(t, 1)
	if err := c.create(1, "f", openReadWrite, 0o644, 0); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	for _, chunk := range []int{1, 4000, maxRequest - writeHeader, maxRequest - writeHeader + 1, 64 << 10, 1<<20 - writeHeader} {
		for off := 0; off < len(data); off += max(chunk, 64<<10) {
			b := data[off:min(off+chunk, len(data))]
			n, err := c.write(1, uint64(off), b)
			if err != nil || n != len(b) {
				t.Fatalf("write %d at %d: %d, %v", len(b), off, n, err)
			}
			got, err := c.read(1, uint64(off), uint32(len(b)))
			if err != nil || !bytes.Equal(got, b) {
				t.Fatalf("read %d at %d: %d bytes, %v", len(b), off, len(got), err)
			}
		}
	}
	if b, err := c.read(1, 1<<40, 100); err != nil || len(b) != 0 {
		t.Errorf("read past the end: %d bytes, %v", len(b), err)
	}
	if _, err := c.rpc(tFsync, uint32(1), uint32(0)); err != nil {
		t.Errorf("fsync: %v", err)
	}
	if _, err := c.rpc(tFsync, uint32(1), uint32(1)); err != nil {
		t.Errorf("fdatasync: %v", err)
	}
	// A hole of 1 TiB takes no room.
	if _, err := c.write(1, 1<<40, []byte("end")); err != nil {
		t.Errorf("sparse write: %v", err)
	}
	a, err := c.getattr(1)
	if err != nil || a.size != 1<<40+3 || a.blocks*512 > 16<<20 {
		t.Errorf("sparse file: size %d, %d blocks, %v", a.size, a.blocks, err)
	}
	_, err = c.read(1, math.MaxUint64, 1)
	want(t, "read at a negative offset", err, unix.EINVAL)
	_, err = c.write(1, math.MaxUint64, []byte("x"))
	want(t, "write at a negative offset", err, unix.EINVAL)
	if fi, err := os.Stat(filepath.Join(dir, "f")); err != nil || fi.Size() != 1<<40+3 {
		t.Errorf("on the host: %v, %v", fi, err)
	}
}

func TestAppend(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "one")
	c := mount(t, Share{Path: dir})
	c.at(t, 1, "f")
	if err := c.open(1, openWriteOnly|openAppend); err != nil {
		t.Fatal(err)
	}
	if _, err := c.write(1, 0, []byte("two")); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); string(b) != "onetwo" {
		t.Errorf("got %q", b)
	}
	_, err := c.read(1, 0, 1)
	want(t, "read of a write-only file", err, unix.EBADF)
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	c := mount(t, Share{Path: dir})
	do := func(what string, typ uint8, args ...any) {
		t.Helper()
		if _, err := c.rpc(typ, args...); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	do("mkdir", tMkdir, uint32(0), "d", uint32(0o1750), uint32(0))
	do("mkdir", tMkdir, uint32(0), "e", uint32(0o755), uint32(0))
	do("symlink", tSymlink, uint32(0), "s", "../../etc/passwd", uint32(0))
	do("mknod", tMknod, uint32(0), "r", uint32(unix.S_IFREG|0o640), uint32(0), uint32(0), uint32(0))
	c.at(t, 1, "d")
	c.at(t, 2, "r")
	do("link", tLink, uint32(1), uint32(2), "hard")
	c.at(t, 3, "s")
	do("link of a symlink", tLink, uint32(1), uint32(3), "hardsym")
	if l, err := os.Readlink(filepath.Join(dir, "d/hardsym")); l != "../../etc/passwd" {
		t.Errorf("link of a symlink: %q, %v", l, err)
	}
	d, err := c.rpc(tReadlink, uint32(3))
	if got := d.str(); got != "../../etc/passwd" || err != nil {
		t.Errorf("readlink: %q, %v", got, err)
	}
	if a, err := c.getattr(2); err != nil || a.nlink != 2 || a.mode != unix.S_IFREG|0o640 {
		t.Errorf("link: %d links, mode %o, %v", a.nlink, a.mode, err)
	}
	if a, err := c.getattr(1); err != nil || a.mode != unix.S_IFDIR|0o1750 {
		t.Errorf("mkdir: mode %o, %v", a.mode, err)
	}
	do("rename", tRenameat, uint32(0), "r", uint32(1), "moved")
	c.at(t, 4, "d", "moved")
	_, err = c.rpc(tUnlinkat, uint32(0), "d", uint32(0))
	want(t, "unlink of a folder", err, unix.EISDIR)
	_, err = c.rpc(tUnlinkat, uint32(0), "d", uint32(unlinkDirectory))
	want(t, "rmdir of a full folder", err, unix.ENOTEMPTY)
	_, err = c.rpc(tMkdir, uint32(0), "d", uint32(0o755), uint32(0))
	want(t, "mkdir of what is there", err, unix.EEXIST)
	for _, n := range []string{"moved", "hard", "hardsym"} {
		do("unlink "+n, tUnlinkat, uint32(1), n, uint32(0))
	}
	do("rmdir", tUnlinkat, uint32(0), "d", uint32(unlinkDirectory))
	if a, err := c.getattr(4); err != nil || a.nlink != 0 {
		t.Errorf("a removed file that a fid has: %d links, %v", a.nlink, err)
	}
	if n, err := c.walk(0, 9, "e", "nothing", "more"); err != nil || n != 1 {
		t.Errorf("walk: %d names, %v", n, err)
	}
	want(t, "a fid of half a walk", c.clunk(9), unix.EBADF)
	_, err = c.walk(0, 9, "nothing")
	want(t, "walk", err, unix.ENOENT)
	_, err = c.walk(2, 9, "x")
	want(t, "walk from a file", err, unix.ENOTDIR)
	_, err = c.rpc(tRemove, uint32(4))
	want(t, "remove", err, unix.EOPNOTSUPP)
	want(t, "a removed fid", c.clunk(4), unix.EBADF)
	// In place.
	c.at(t, 5, "e")
	if _, err := c.walk(5, 5); err != nil {
		t.Errorf("walk in place: %v", err)
	}
}

func TestOwnersAndModes(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := t.TempDir()
	c := mount(t, Share{Path: dir})
	root := os.Getuid() == 0
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	if root {
		uid, gid = 1234, 5678
	}
	if err := c.attach(1, "share", uid); err != nil {
		t.Fatal(err)
	}
	if _, err := c.rpc(tMkdir, uint32(1), "d", uint32(0o2777), gid); err != nil {
		t.Fatal(err)
	}
	if _, err := c.rpc(tSymlink, uint32(1), "s", "x", gid); err != nil {
		t.Fatal(err)
	}
	if err := c.create(1, "f", openReadWrite|openExclusive, 0o4466, gid); err != nil {
		t.Fatal(err)
	}
	if n, err := c.write(1, 0, []byte("x")); n != 1 {
		t.Errorf("write to a new file of mode 0466: %v", err)
	}
	for name, mode := range map[string]uint32{"d": unix.S_IFDIR | 0o2777, "s": unix.S_IFLNK | 0o777, "f": unix.S_IFREG | 0o466} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		if name == "f" {
			st.Mode &^= unix.S_ISUID // which the write took away
		}
		if st.Mode != mode || st.Uid != uid || st.Gid != gid {
			t.Errorf("%s: mode %o of %d:%d, want %o of %d:%d", name, st.Mode, st.Uid, st.Gid, mode, uid, gid)
		}
	}
	set := func(fid, valid, mode, uid, gid uint32, size uint64, at, mt uint64) error {
		_, err := c.rpc(tSetattr, fid, valid, mode, uid, gid, size, at, uint64(7), mt, uint64(8))
		return err
	}
	c.at(t, 2, "f")
	if err := set(2, setMode|setUID|setGID, 0o6755, uid, gid, 0, 0, 0); err != nil {
		t.Error(err)
	}
	if err := set(2, setSize, 0, 0, 0, 12345, 0, 0); err != nil {
		t.Error(err)
	}
	if err := set(2, setATime|setATimeValue|setMTime|setMTimeValue, 0, 0, 0, 0, 1000, 2000); err != nil {
		t.Error(err)
	}
	a, err := c.getattr(2)
	if err != nil || a.mode != unix.S_IFREG|0o6755 || a.size != 12345 || a.atime != 1000 || a.mtime != 2000 {
		t.Errorf("got %+v, %v", a, err)
	}
	if err := set(2, setMTime, 0, 0, 0, 0, 0, 0); err != nil {
		t.Error(err)
	}
	if a, _ := c.getattr(2); a.atime != 1000 || a.mtime < time.Now().Unix()-60 {
		t.Errorf("times %d, %d, want 1000 and now", a.atime, a.mtime)
	}
	c.at(t, 3, "s")
	if err := set(3, setUID|setMTime|setMTimeValue, 0, uid, 0, 0, 0, 3000); err != nil {
		t.Errorf("owner of a symlink: %v", err)
	}
	if a, _ := c.getattr(3); a.mtime != 3000 {
		t.Errorf("time of a symlink %d, want 3000", a.mtime)
	}
	want(t, "mode of a symlink", set(3, setMode, 0o600, 0, 0, 0, 0, 0), unix.EOPNOTSUPP)
	want(t, "size of a symlink", set(3, setSize, 0, 0, 0, 1, 0, 0), unix.EINVAL)
	c.at(t, 4, "d")
	want(t, "size of a folder", set(4, setSize, 0, 0, 0, 1, 0, 0), unix.EISDIR)
	want(t, "a size that is negative", set(2, setSize, 0, 0, 0, math.MaxUint64, 0, 0), unix.EINVAL)
	d, err := c.rpc(tStatfs, uint32(0))
	if err != nil || d.u32() != fsMagic || d.u32() == 0 || d.u64() == 0 {
		t.Errorf("statfs: %v", err)
	}
}

func TestReaddir(t *testing.T) {
	dir := t.TempDir()
	var names []string
	for i := range 700 {
		n := fmt.Sprintf("%d-%s", i, strings.Repeat("x", i%200))
		put(t, dir, n, "")
		names = append(names, n)
	}
	names = append(names, ".", "..")
	slices.Sort(names)
	c := mount(t, Share{Path: dir})
	c.at(t, 1)
	_, err := c.readdir(1, 4096)
	want(t, "readdir of a folder that is not open", err, unix.EBADF)
	if err := c.open(1, openDirectory); err != nil {
		t.Fatal(err)
	}
	for _, count := range []uint32{24 + 204, 4096, 1 << 20} {
		got, err := c.readdir(1, count)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, names) {
			t.Errorf("by %d bytes: %d names, want %d, error %v", count, len(got), len(names), err)
		}
	}
	_, err = c.rpc(tReaddir, uint32(1), uint64(0), uint32(10))
	want(t, "no room for a name", err, unix.EINVAL)
	put(t, dir, "f", "")
	c.at(t, 2, "f")
	if err := c.open(2, 0); err != nil {
		t.Fatal(err)
	}
	_, err = c.readdir(2, 4096)
	want(t, "readdir of a file", err, unix.ENOTDIR)
	want(t, "open for writing of a folder", c.open(c.at(t, 3), openReadWrite), unix.EISDIR)
	want(t, "a file as a folder", c.open(c.at(t, 4, "f"), openDirectory), unix.ENOTDIR)
}

func TestXattr(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "")
	if err := unix.Setxattr(p, "user.one", []byte("1"), 0); err != nil {
		t.Skipf("no attributes here: %v", err)
	}
	trusted := unix.Setxattr(p, "trusted.overlay.opaque", []byte("y"), 0) == nil
	c := mount(t, Share{Path: dir})
	c.at(t, 1, "f")
	get := func(name string) (string, error) {
		d, err := c.rpc(tXattrwalk, uint32(1), uint32(50), name)
		if err != nil {
			return "", err
		}
		defer c.clunk(50)
		b, err := c.read(50, 0, uint32(d.u64()))
		return string(b), err
	}
	set := func(name, value string, flags uint32) error {
		c.at(t, 51, "f")
		if _, err := c.rpc(tXattrcreate, uint32(51), name, uint64(len(value)), flags); err != nil {
			c.clunk(51)
			return err
		}
		for off := 0; off < len(value); off += 1000 {
			if _, err := c.write(51, uint64(off), []byte(value[off:min(off+1000, len(value))])); err != nil {
				t.Error(err)
			}
		}
		return c.clunk(51)
	}
	if v, err := get("user.one"); v != "1" || err != nil {
		t.Errorf("got %q, %v", v, err)
	}
	long := strings.Repeat("v", 2500)
	if err := set("user.two", long, 0); err != nil {
		t.Errorf("set: %v", err)
	}
	if v, err := get("user.two"); v != long || err != nil {
		t.Errorf("got %d bytes, %v", len(v), err)
	}
	if err := set("user.empty", "", 0); err != nil {
		t.Errorf("set an empty one: %v", err)
	}
	want(t, "create what is there", set("user.two", "x", unix.XATTR_CREATE), unix.EEXIST)
	want(t, "replace what is not there", set("user.three", "x", unix.XATTR_REPLACE), unix.ENODATA)
	if v, err := get(""); err != nil || len(v) != len("user.one\x00user.two\x00user.empty\x00") {
		t.Errorf("list: %q, %v", v, err)
	}
	if err := set("user.two", "", unix.XATTR_REPLACE); err != nil {
		t.Errorf("remove: %v", err)
	}
	_, err := get("user.two")
	want(t, "a removed one", err, unix.ENODATA)
	if trusted {
		_, err = get("trusted.overlay.opaque")
		want(t, "the host's own", err, unix.EOPNOTSUPP)
	}
	want(t, "the host's own", set("trusted.overlay.redirect", "/", 0), unix.EOPNOTSUPP)
	want(t, "a long one", set("user.long", strings.Repeat("v", hostfs.MaxXattr+1), 0), unix.E2BIG)

	// One that is not written whole is not set.
	c.at(t, 52, "f")
	if _, err := c.rpc(tXattrcreate, uint32(52), "user.half", uint64(10), uint32(0)); err != nil {
		t.Fatal(err)
	}
	_, err = c.write(52, 0, make([]byte, 11))
	want(t, "more than was said", err, unix.EINVAL)
	_, err = c.write(52, 5, make([]byte, 1))
	want(t, "not in order", err, unix.EINVAL)
	if _, err := c.write(52, 0, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	want(t, "half of one", c.clunk(52), unix.EINVAL)
	_, err = get("user.half")
	want(t, "half of one", err, unix.ENODATA)
}

func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "text")
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	c := mount(t, Share{Path: dir, ReadOnly: true})
	c.at(t, 1, "f")
	for what, err := range map[string]error{
		"open for writing":     c.open(1, openWriteOnly),
		"open for both":        c.open(1, openReadWrite),
		"open and truncate":    c.open(1, openTruncate),
		"create":               c.create(c.at(t, 2), "new", openReadWrite, 0o644, 0),
		"create what is there": c.create(2, "f", 0, 0o644, 0),
		"mkdir":                rpcErr(c, tMkdir, uint32(0), "x", uint32(0), uint32(0)),
		"symlink":              rpcErr(c, tSymlink, uint32(0), "x", "y", uint32(0)),
		"mknod":                rpcErr(c, tMknod, uint32(0), "x", uint32(unix.S_IFREG), uint32(0), uint32(0), uint32(0)),
		"link":                 rpcErr(c, tLink, uint32(0), uint32(1), "x"),
		"rename":               rpcErr(c, tRenameat, uint32(0), "f", uint32(0), "x"),
		"unlink":               rpcErr(c, tUnlinkat, uint32(0), "f", uint32(0)),
		"rmdir":                rpcErr(c, tUnlinkat, uint32(0), "d", uint32(unlinkDirectory)),
		"setattr":              rpcErr(c, tSetattr, uint32(1), uint32(setMode), uint32(0), uint32(0), uint32(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0)),
		"xattr":                rpcErr(c, tXattrcreate, uint32(1), "user.x", uint64(0), uint32(0)),
	} {
		want(t, what, err, unix.EROFS)
	}
	if err := c.open(1, 0); err != nil {
		t.Error(err)
	}
	if b, err := c.read(1, 0, 10); string(b) != "text" {
		t.Errorf("read: %q, %v", b, err)
	}
	_, err := c.write(1, 0, []byte("x"))
	want(t, "write", err, unix.EBADF)
	left, _ := os.ReadDir(dir)
	if b, _ := os.ReadFile(filepath.Join(dir, "f")); len(left) != 2 || string(b) != "text" {
		t.Errorf("the folder has changed: %v", left)
	}
}

func rpcErr(c *client, typ uint8, args ...any) error {
	_, err := c.rpc(typ, args...)
	return err
}

func TestRestricted(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a", "b", "secret"} {
		put(t, dir, n, n)
	}
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	put(t, filepath.Join(dir, "d"), "secret", "below")
	c := mount(t, Share{Path: dir, AllowedNames: []string{"a", "d", "later"}})
	c.at(t, 1)
	if err := c.open(1, openDirectory); err != nil {
		t.Fatal(err)
	}
	names, err := c.readdir(1, 1<<16)
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{".", "..", "a", "d"}) {
		t.Errorf("readdir: %q, %v", names, err)
	}
	_, err = c.walk(0, 2, "secret")
	want(t, "walk to a hidden name", err, unix.ENOENT)
	c.at(t, 2, "d", "secret")
	c.at(t, 3, "a")
	for what, err := range map[string]error{
		"create":    c.create(c.at(t, 4), "new", openReadWrite, 0o644, 0),
		"overwrite": c.create(4, "secret", openReadWrite, 0o644, 0),
		"mkdir":     rpcErr(c, tMkdir, uint32(0), "x", uint32(0), uint32(0)),
		"symlink":   rpcErr(c, tSymlink, uint32(0), "x", "y", uint32(0)),
		"link":      rpcErr(c, tLink, uint32(0), uint32(3), "x"),
		"rename to": rpcErr(c, tRenameat, uint32(0), "a", uint32(0), "secret"),
	} {
		want(t, what, err, unix.EPERM)
	}
	want(t, "unlink", rpcErr(c, tUnlinkat, uint32(0), "secret", uint32(0)), unix.ENOENT)
	want(t, "rename from", rpcErr(c, tRenameat, uint32(0), "secret", uint32(0), "later"), unix.ENOENT)
	if err := c.create(4, "later", openReadWrite, 0o644, 0); err != nil {
		t.Errorf("create an allowed name: %v", err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "secret")); string(b) != "secret" {
		t.Errorf("the hidden file has %q", b)
	}
	none := mount(t, Share{Path: dir, AllowedNames: []string{}})
	_, err = none.walk(0, 2, "a")
	want(t, "no name is allowed", err, unix.ENOENT)
}

func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	names := []string{"fifo", "sock"}
	if unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, 1<<8|3) == nil {
		names = append(names, "null")
	}
	c := mount(t, Share{Path: dir})
	for i, n := range names {
		fid := c.at(t, uint32(10+i), n)
		want(t, "open of "+n, c.open(fid, 0), unix.EPERM)
		want(t, "open of "+n, c.open(fid, openReadWrite), unix.EPERM)
		if _, err := c.getattr(fid); err != nil {
			t.Errorf("attributes of %s: %v", n, err)
		}
		c.at(t, 100)
		want(t, "create over "+n, c.create(100, n, openReadWrite, 0o644, 0), unix.EPERM)
		c.clunk(100)
	}
	for what, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "device": unix.S_IFCHR, "disk": unix.S_IFBLK} {
		want(t, what, rpcErr(c, tMknod, uint32(0), "new", mode|0o666, uint32(1), uint32(3), uint32(0)), unix.EPERM)
	}
	if err := rpcErr(c, tUnlinkat, uint32(0), "fifo", uint32(0)); err != nil {
		t.Errorf("unlink of a fifo: %v", err)
	}
}

// No request reaches what lies outside of the folder.
func TestConfined(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, "target", "outside")
	dir := filepath.Join(outside, "share")
	os.MkdirAll(filepath.Join(dir, "sub"), 0o755)
	os.Symlink(outside, filepath.Join(dir, "abs"))
	os.Symlink("..", filepath.Join(dir, "up"))
	os.Symlink("../target", filepath.Join(dir, "file"))
	c := mount(t, Share{Path: dir})
	c.at(t, 1, "sub")
	for _, name := range []string{"..", ".", "", "/", "../target", "/etc/passwd", "sub/../..", "a\x00b"} {
		for _, from := range []uint32{0, 1} {
			_, err := c.walk(from, 9, name)
			want(t, fmt.Sprintf("walk to %q", name), err, unix.EINVAL)
			c.walk(from, 8)
			want(t, fmt.Sprintf("create %q", name), c.create(8, name, openReadWrite, 0o644, 0), unix.EINVAL)
			c.clunk(8)
			want(t, fmt.Sprintf("mkdir %q", name), rpcErr(c, tMkdir, from, name, uint32(0o755), uint32(0)), unix.EINVAL)
			want(t, fmt.Sprintf("rename to %q", name), rpcErr(c, tRenameat, uint32(0), "sub", from, name), unix.EINVAL)
			want(t, fmt.Sprintf("unlink %q", name), rpcErr(c, tUnlinkat, from, name, uint32(0)), unix.EINVAL)
		}
	}
	want(t, "a long name", rpcErr(c, tMkdir, uint32(0), strings.Repeat("x", 256), uint32(0o755), uint32(0)), unix.ENAMETOOLONG)
	for _, link := range []string{"abs", "up", "file"} {
		if n, err := c.walk(0, 9, link, "target"); err != nil || n != 1 {
			t.Errorf("walk through %s: %d names, %v", link, n, err)
		}
		fid := c.at(t, 10, link)
		want(t, "open of "+link, c.open(fid, 0), unix.ELOOP)
		want(t, "truncate through "+link, rpcErr(c, tSetattr, fid, uint32(setSize), uint32(0), uint32(0), uint32(0), uint64(0), uint64(0), uint64(0), uint64(0), uint64(0)), unix.EINVAL)
		_, err := c.walk(fid, 11, "target")
		want(t, "walk from "+link, err, unix.ENOTDIR)
		c.at(t, 12)
		want(t, "create through "+link, c.create(12, link, openReadWrite|openTruncate, 0o644, 0), unix.ELOOP)
		c.clunk(12)
		c.clunk(10)
	}
	if b, _ := os.ReadFile(filepath.Join(outside, "target")); string(b) != "outside" {
		t.Errorf("the file outside has %q", b)
	}
}

// A folder that turns into a symbolic link and back, again and again, never
// leads outside.
func TestConfinedRace(t *testing.T) {
	outside := t.TempDir()
	put(t, outside, "f", "outside")
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "real"), 0o755)
	put(t, filepath.Join(dir, "real"), "f", "inside")
	os.Symlink(outside, filepath.Join(dir, "link"))
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	put(t, filepath.Join(dir, "d"), "f", "inside")
	c := mount(t, Share{Path: dir})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "d"), unix.AT_FDCWD, filepath.Join(dir, "link"), unix.RENAME_EXCHANGE)
		}
	})
	for range 2000 {
		n, err := c.walk(0, 1, "d", "f")
		if err != nil || n < 2 {
			continue
		}
		if c.open(1, openReadWrite) == nil {
			if b, _ := c.read(1, 0, 100); string(b) != "inside" {
				t.Fatalf("read %q", b)
			}
			c.write(1, 0, []byte("inside"))
		}
		c.clunk(1)
	}
	close(stop)
	wg.Wait()
	if b, _ := os.ReadFile(filepath.Join(outside, "f")); string(b) != "outside" {
		t.Errorf("the file outside has %q", b)
	}
}

func lockArgs(fid uint32, typ uint8, flags uint32, start, length uint64, proc uint32) []any {
	return []any{fid, typ, flags, start, length, proc, "host"}
}

func (c *client) lock(fid uint32, typ uint8, flags uint32, start, length uint64, proc uint32) (uint8, error) {
	d, err := c.rpc(tLock, lockArgs(fid, typ, flags, start, length, proc)...)
	return d.u8(), err
}

func TestLocks(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "0123456789")
	c := mount(t, Share{Path: dir})
	for fid := uint32(1); fid <= 4; fid++ {
		if err := c.open(c.at(t, fid, "f"), openReadWrite); err != nil {
			t.Fatal(err)
		}
	}
	try := func(what string, fid uint32, typ uint8, start, length uint64, proc uint32, want uint8) {
		t.Helper()
		if got, err := c.lock(fid, typ, 0, start, length, proc); got != want || err != nil {
			t.Errorf("%s: status %d, %v, want %d", what, got, err, want)
		}
	}
	try("first", 1, lockWrite, 0, 5, 100, lockSuccess)
	try("another process", 2, lockWrite, 0, 5, 200, lockBlocked)
	try("another range", 2, lockWrite, 5, 5, 200, lockSuccess)
	try("the same process by another fid", 3, lockWrite, 0, 2, 100, lockSuccess)
	d, err := c.rpc(tGetlock, uint32(4), uint8(lockRead), uint64(0), uint64(1), uint32(300), "host")
	if typ := d.u8(); typ != lockWrite || err != nil {
		t.Errorf("getlock: type %d, %v", typ, err)
	}
	d, err = c.rpc(tGetlock, uint32(4), uint8(lockRead), uint64(100), uint64(1), uint32(300), "host")
	if typ := d.u8(); typ != lockUnlock || err != nil {
		t.Errorf("getlock: type %d, %v", typ, err)
	}
	// The host's programs see them, and are seen.
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	host := func(typ int16, start, length int64) error {
		return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: typ, Start: start, Len: length})
	}
	want(t, "a lock of the host", host(unix.F_RDLCK, 0, 1), unix.EAGAIN)
	if err := host(unix.F_WRLCK, 100, 1); err != nil {
		t.Error(err)
	}
	try("what the host has", 1, lockRead, 100, 1, 100, lockBlocked)

	// One that waits gets it when it is given up, be it by a clunk.
	wait := func(fid, proc uint32) <-chan []byte {
		ch, err := c.send(tLock, c.nextTag(), body(lockArgs(fid, lockWrite, lockFlagBlock, 0, 5, proc)...))
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
	ch := wait(4, 400)
	try("unlock", 1, lockUnlock, 0, 0, 100, lockSuccess)
	if d, err := c.result(tLock, ch); err != nil || d.u8() != lockSuccess {
		t.Errorf("waiting lock: %v", err)
	}
	ch = wait(1, 100)
	if err := c.clunk(4); err != nil {
		t.Error(err)
	}
	if d, err := c.result(tLock, ch); err != nil || d.u8() != lockSuccess {
		t.Errorf("waiting lock: %v", err)
	}
	// The host gives one up, of which nothing tells.
	if err := host(unix.F_UNLCK, 0, 0); err != nil {
		t.Error(err)
	}
	if got, err := c.lock(2, lockWrite, lockFlagBlock, 100, 1, 200); got != lockSuccess || err != nil {
		t.Errorf("what the host had: %d, %v", got, err)
	}
	// A flush ends the wait.
	tag := c.nextTag()
	ch, err = c.send(tLock, tag, body(lockArgs(2, lockWrite, lockFlagBlock, 0, 5, 200)...))
	if err != nil {
		t.Fatal(err)
	}
	flush, err := c.send(tFlush, c.nextTag(), body(tag))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.result(tLock, ch)
	want(t, "a flushed lock", err, unix.EINTR)
	if _, err := c.result(tFlush, flush); err != nil {
		t.Errorf("flush: %v", err)
	}
	for _, bad := range []uint64{math.MaxUint64, 1 << 63} {
		_, err = c.lock(1, lockWrite, 0, bad, 1, 1)
		want(t, "a negative range", err, unix.EINVAL)
	}
	_, err = c.lock(1, 9, 0, 0, 1, 1)
	want(t, "an unknown type", err, unix.EINVAL)
	c.at(t, 9, "f")
	_, err = c.lock(9, lockRead, 0, 0, 1, 1)
	want(t, "a file that is not open", err, unix.EBADF)
}

// Many that wait for a lock leave workers for the one that gives it up.
func TestLockManyWait(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	c := mount(t, Share{Path: dir})
	for fid := uint32(1); fid <= 2; fid++ {
		if err := c.open(c.at(t, fid, "f"), openReadWrite); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := c.lock(1, lockWrite, 0, 0, 0, 1); got != lockSuccess {
		t.Fatal(got, err)
	}
	const n = 100
	var all []<-chan []byte
	for i := range uint32(n) {
		ch, err := c.send(tLock, c.nextTag(), body(lockArgs(2, lockRead, lockFlagBlock, 0, 0, 2+i)...))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ch)
	}
	if got, err := c.lock(1, lockUnlock, 0, 0, 0, 1); got != lockSuccess {
		t.Fatal(got, err)
	}
	count := map[uint8]int{}
	for _, ch := range all {
		d, err := c.result(tLock, ch)
		if err != nil {
			t.Fatal(err)
		}
		count[d.u8()]++
	}
	if count[lockSuccess] < 8 || count[lockSuccess]+count[lockBlocked] != n {
		t.Errorf("got %v", count)
	}
}

func TestAddRemove(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "text")
	s := newServer(t, Config{})
	want(t, "a missing folder", s.Add(Share{Name: "x", Path: filepath.Join(dir, "none")}), fs.ErrNotExist)
	want(t, "a file", s.Add(Share{Name: "x", Path: p}), unix.ENOTDIR)
	for _, sh := range []Share{{Name: "", Path: dir}, {Name: "x", Path: "."}, {Name: "x", Path: dir, AllowedNames: []string{"a/b"}}, {Name: "x", Path: dir, AllowedNames: []string{".."}}} {
		if err := s.Add(sh); err == nil {
			t.Errorf("%+v was added", sh)
		}
	}
	if err := s.Add(Share{Name: "a", Path: dir}); err != nil {
		t.Fatal(err)
	}
	want(t, "a name twice", s.Add(Share{Name: "a", Path: dir}), fs.ErrExist)
	if err := s.Add(Share{Name: "b", Path: dir}); err != nil {
		t.Fatal(err)
	}
	want(t, "remove", s.Remove("c"), fs.ErrNotExist)

	c := newClient(t, s)
	want(t, "no such share", c.attach(0, "c", 0), unix.ENOENT)
	if err := c.attach(0, "a", 0); err != nil {
		t.Fatal(err)
	}
	if err := c.attach(100, "b", 0); err != nil {
		t.Fatal(err)
	}
	want(t, "between shares", rpcErr(c, tRenameat, uint32(0), "f", uint32(100), "g"), unix.EXDEV)
	if err := c.open(c.at(t, 1, "f"), openReadWrite); err != nil {
		t.Fatal(err)
	}
	if got, err := c.lock(1, lockWrite, 0, 0, 0, 1); got != lockSuccess {
		t.Fatal(got, err)
	}
	if err := c.open(c.at(t, 2, "f"), openReadWrite); err != nil {
		t.Fatal(err)
	}
	waiting, err := c.send(tLock, c.nextTag(), body(lockArgs(2, lockWrite, lockFlagBlock, 0, 0, 2)...))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("a"); err != nil {
		t.Fatal(err)
	}
	_, err = c.result(tLock, waiting)
	want(t, "a lock that waits", err, unix.ESTALE)
	want(t, "remove again", s.Remove("a"), fs.ErrNotExist)
	_, err = c.read(1, 0, 4)
	want(t, "read", err, unix.ESTALE)
	_, err = c.walk(0, 9, "f")
	want(t, "walk", err, unix.ESTALE)
	_, err = c.getattr(0)
	want(t, "getattr", err, unix.ESTALE)
	want(t, "attach", c.attach(9, "a", 0), unix.ENOENT)
	if err := c.clunk(1); err != nil {
		t.Errorf("clunk: %v", err)
	}
	if _, err := c.walk(100, 101, "f"); err != nil {
		t.Errorf("the other share: %v", err)
	}
	if err := s.Add(Share{Name: "a", Path: dir}); err != nil {
		t.Errorf("the name again: %v", err)
	}
	_, err = c.getattr(0)
	want(t, "an old fid of a new share", err, unix.ESTALE)
	// root of a and of b, and of the fids on b
	if n := s.files.Held(); n != 3 {
		t.Errorf("%d files are open, want 3", n)
	}
}

// A share keeps the folder that was there when it was added.
func TestFolderMoves(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "d")
	os.Mkdir(dir, 0o755)
	put(t, dir, "f", "old")
	c := mount(t, Share{Path: dir})
	os.Rename(dir, dir+"2")
	os.Mkdir(dir, 0o755)
	put(t, dir, "f", "new")
	if err := c.open(c.at(t, 1, "f"), 0); err != nil {
		t.Fatal(err)
	}
	if b, err := c.read(1, 0, 10); string(b) != "old" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestServe(t *testing.T) {
	s := newServer(t, Config{MaxConns: 2})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
		if len(conns) == 3 { // one too many
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a third connection: %v", err)
			}
			break
		}
		c.Write(message(tVersion, noTag, body(uint32(8192), version)))
		b, err := readMessage(c)
		if err != nil || string(b) != string(message(tVersion+1, noTag, body(uint32(8192), version))) {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := conns[0].Read(make([]byte, 1)); err == nil {
		t.Error("a connection goes on after Close")
	}
	want(t, "serve after Close", s.Serve(context.Background(), l), net.ErrClosed)
	want(t, "add after Close", s.Add(Share{Name: "a", Path: t.TempDir()}), net.ErrClosed)

	s = newServer(t, Config{})
	if l, err = net.Listen("unix", filepath.Join(t.TempDir(), "s")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- s.Serve(ctx, l) }()
	cancel()
	want(t, "serve", <-served, context.Canceled)
}

func TestFileSizeLimit(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1000, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_FSIZE, &old)
	s := newServer(t, Config{})
	if err := s.Add(Share{Name: "a", Path: dir}); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s)
	c.attach(0, "a", 0)
	if err := c.open(c.at(t, 1, "f"), openWriteOnly); err != nil {
		t.Fatal(err)
	}
	if n, err := c.write(1, 990, make([]byte, 20)); n != 10 || err != nil {
		t.Errorf("wrote %d, %v, want 10", n, err)
	}
	_, err := c.write(1, 1000, []byte("x"))
	want(t, "write", err, unix.EFBIG)
	if err := c.open(c.at(t, 2, "f"), openWriteOnly|openAppend); err != nil {
		t.Fatal(err)
	}
	_, err = c.write(2, 0, []byte("x"))
	want(t, "append", err, unix.EFBIG)
	want(t, "truncate", rpcErr(c, tSetattr, uint32(1), uint32(setSize), uint32(0), uint32(0), uint32(0), uint64(1001), uint64(0), uint64(0), uint64(0), uint64(0)), unix.EFBIG)
}
