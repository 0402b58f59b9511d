//go:build linux

package hostfs

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSetAttr(t *testing.T) {
	uid, gid, _ := user()
	dir := t.TempDir()
	p := put(t, dir, "f", "text")
	tree := open(t, Share{Path: dir})
	f := at(t, tree, "f")
	for _, tt := range []struct {
		what   string
		mode   uint32 // before
		change Change
		want   uint32
	}{
		{"a mode", 0o644, Change{Set: SetMode, Mode: unix.S_IFDIR | 0o4711}, 0o4711},
		{"an owner", 0o6755, Change{Set: SetUID, UID: uid, GID: 1}, 0o755},
		{"a group", 0o6755, Change{Set: SetGID, UID: 1, GID: gid}, 0o755},
		{"a group that runs it not", 0o6745, Change{Set: SetGID, GID: gid}, 0o2745},
		{"both and a mode", 0o755, Change{Set: SetUID | SetGID | SetMode, UID: uid, GID: gid, Mode: 0o6755}, 0o6755},
		{"owner as it is", 0o755, Change{Set: SetUID | SetGID, UID: NoID, GID: NoID}, 0o755},
		{"privilege", 0o6755, Change{Set: SetUnprivileged}, 0o755},
		{"no privilege", 0o2745, Change{Set: SetUnprivileged}, 0o2745},
		{"set-user-id of what runs not", 0o6644, Change{Set: SetUnprivileged}, 0o2644},
		{"privilege and a mode", 0o6755, Change{Set: SetUnprivileged | SetMode, Mode: 0o4700}, 0o4700},
		{"a size", 0o6755, Change{Set: SetSize, Size: 2}, 0o6755},
		{"a size and privilege", 0o6755, Change{Set: SetSize | SetUnprivileged, Size: 12345}, 0o755},
		{"nothing", 0o6755, Change{Mode: 1, UID: 2, GID: 3, Size: 4}, 0o6755},
	} {
		if err := unix.Chmod(p, tt.mode); err != nil {
			t.Fatal(err)
		}
		before := lstat(t, p)
		if err := f.SetAttr(nil, tt.change); err != nil {
			t.Errorf("%s: %v", tt.what, err)
			continue
		}
		st := lstat(t, p)
		wantUID, wantGID, size := before.Uid, before.Gid, before.Size
		if tt.change.Set&SetUID != 0 && tt.change.UID != NoID {
			wantUID = uid
		}
		if tt.change.Set&SetGID != 0 && tt.change.GID != NoID {
			wantGID = gid
		}
		if tt.change.Set&SetSize != 0 {
			size = int64(tt.change.Size)
		}
		if st.Mode&0o7777 != tt.want || st.Uid != wantUID || st.Gid != wantGID || st.Size != size {
			t.Errorf("%s: mode %o of %d:%d, %d bytes; want %o of %d:%d, %d", tt.what, st.Mode&0o7777, st.Uid, st.Gid, st.Size, tt.want, wantUID, wantGID, size)
		}
	}
}

func TestSetTimes(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "")
	if err := os.Symlink("f", filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	tree := open(t, Share{Path: dir})
	f := at(t, tree, "f")
	set := func(n *Node, c Change) unix.Stat_t {
		t.Helper()
		if err := n.SetAttr(nil, c); err != nil {
			t.Error(err)
		}
		st, err := n.Stat()
		if err != nil {
			t.Error(err)
		}
		return st
	}
	st := set(f, Change{Set: SetATime | SetMTime, ATime: unix.Timespec{Sec: 1000, Nsec: 1}, MTime: unix.Timespec{Sec: 2000, Nsec: 2}})
	if st.Atim != (unix.Timespec{Sec: 1000, Nsec: 1}) || st.Mtim != (unix.Timespec{Sec: 2000, Nsec: 2}) {
		t.Errorf("times %v, %v", st.Atim, st.Mtim)
	}
	now := time.Now().Unix()
	if st = set(f, Change{Set: SetMTime, MTime: unix.Timespec{Nsec: unix.UTIME_NOW}}); st.Atim.Sec != 1000 || st.Mtim.Sec < now-60 {
		t.Errorf("times %v, %v", st.Atim, st.Mtim)
	}
	if st = set(at(t, tree, "s"), Change{Set: SetMTime, MTime: unix.Timespec{Sec: 3000}}); st.Mtim.Sec != 3000 || lstat(t, p).Mtim.Sec == 3000 {
		t.Errorf("times %v of a link", st.Mtim)
	}
	want(t, "a time that is none", f.SetAttr(nil, Change{Set: SetMTime, MTime: unix.Timespec{Nsec: 2e9}}), unix.EINVAL)
}

func TestSetSize(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "text")
	mkdir(t, dir, "d")
	if err := os.Symlink("f", filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	limit(t, 1000)
	tree := open(t, Share{Path: dir})
	f := at(t, tree, "f")
	size := func(n uint64) Change { return Change{Set: SetSize, Size: n} }
	want(t, "a folder", at(t, tree, "d").SetAttr(nil, size(1)), unix.EISDIR)
	want(t, "a link", at(t, tree, "s").SetAttr(nil, size(1)), unix.EINVAL)
	want(t, "the mode of a link", at(t, tree, "s").SetAttr(nil, Change{Set: SetMode}), unix.EOPNOTSUPP)
	want(t, "less than nothing", f.SetAttr(nil, size(math.MaxUint64)), unix.EINVAL)
	want(t, "more than may be", f.SetAttr(nil, size(1001)), unix.EFBIG)
	reader, writer := openFile(t, f, unix.O_RDONLY), openFile(t, f, unix.O_WRONLY)
	for n, file := range []*File{nil, reader, writer} {
		want(t, "a size", f.SetAttr(file, size(uint64(n))), nil)
		if st := lstat(t, p); st.Size != int64(n) {
			t.Errorf("%d bytes, want %d", st.Size, n)
		}
	}
}
