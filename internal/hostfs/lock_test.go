//go:build linux

package hostfs

import (
	"math"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func lock(typ int16, start, length int64) unix.Flock_t {
	return unix.Flock_t{Type: typ, Start: start, Len: length}
}

func TestLocks(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "0123456789")
	put(t, dir, "g", "")
	tree := open(t, Share{Path: dir})
	n := at(t, tree, "f")
	a, b, g := openFile(t, n, unix.O_RDWR), openFile(t, n, unix.O_RDWR), openFile(t, at(t, tree, "g"), unix.O_RDWR)
	locks := Locks[string]{Max: 10}
	locks.Lock()
	defer locks.Unlock()
	set := func(what string, f *File, owner string, l unix.Flock_t, err error) {
		t.Helper()
		want(t, what, locks.Set(f, owner, l), err)
	}
	set("first", a, "one", lock(unix.F_WRLCK, 0, 5), nil)
	set("another owner", b, "two", lock(unix.F_WRLCK, 0, 5), unix.EAGAIN)
	set("another range", b, "two", lock(unix.F_WRLCK, 5, 5), nil)
	set("another file", g, "two", lock(unix.F_WRLCK, 0, 5), nil)
	set("the same by another file", b, "one", lock(unix.F_WRLCK, 0, 2), nil)
	set("unlock of nothing", b, "three", lock(unix.F_UNLCK, 0, 0), nil)
	if locks.Has(b, "three") || !locks.Has(b, "one") {
		t.Error("there are other owners")
	}
	l := lock(unix.F_RDLCK, 0, 1)
	if err := locks.Get(b, "three", &l); l.Type != unix.F_WRLCK || l.Start != 0 || l.Len != 5 {
		t.Errorf("in the way is %+v, %v", l, err)
	}
	l = lock(unix.F_WRLCK, 0, 1)
	if err := locks.Get(b, "one", &l); l.Type != unix.F_UNLCK || err != nil {
		t.Errorf("in the way of itself is %+v, %v", l, err)
	}
	host, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	try := func(l unix.Flock_t) error { return unix.FcntlFlock(host.Fd(), unix.F_OFD_SETLK, &l) }
	want(t, "the host", try(lock(unix.F_RDLCK, 0, 1)), unix.EAGAIN)
	want(t, "the host elsewhere", try(lock(unix.F_WRLCK, 100, 1)), nil)
	set("what the host has", a, "one", lock(unix.F_RDLCK, 100, 1), unix.EAGAIN)

	// One of two files ends, then the other.
	if ended := locks.Close(a); len(ended) > 0 {
		t.Errorf("the locks of %v have ended", ended)
	}
	want(t, "the host", try(lock(unix.F_RDLCK, 0, 1)), unix.EAGAIN)
	if ended := locks.Close(b); len(ended) == 0 {
		t.Error("no locks have ended")
	}
	want(t, "the host after that", try(lock(unix.F_WRLCK, 0, 10)), nil)
	want(t, "the host's unlock", try(lock(unix.F_UNLCK, 0, 0)), nil)
	if ended := locks.Close(b); len(ended) > 0 {
		t.Errorf("%v still had locks", ended)
	}
	// A part and all of it are given up.
	set("all", a, "one", lock(unix.F_WRLCK, 0, 0), nil)
	set("unlock of a part", a, "one", lock(unix.F_UNLCK, 5, 0), nil)
	want(t, "the host in that part", try(lock(unix.F_WRLCK, 7, 1)), nil)
	want(t, "the host in the other", try(lock(unix.F_WRLCK, 0, 1)), unix.EAGAIN)
	if !locks.Drop(b, "one") || locks.Drop(b, "one") || locks.Has(a, "one") {
		t.Error("the owner was not dropped once")
	}
	want(t, "the host in that", try(lock(unix.F_WRLCK, 0, 1)), nil)
	for _, l := range []unix.Flock_t{lock(unix.F_RDLCK, -1, 1), lock(unix.F_RDLCK, 0, -1), lock(unix.F_RDLCK, math.MaxInt64, math.MaxInt64), lock(99, 0, 1)} {
		if err := locks.Set(b, "bad", l); err == nil || locks.Has(b, "bad") {
			t.Errorf("%+v: %v", l, err)
		}
	}
	want(t, "a range that is none", locks.Get(b, "one", &unix.Flock_t{Start: -1}), unix.EINVAL)
	locks.Close(g)
}

func TestLocksOfFiles(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	n := at(t, open(t, Share{Path: dir}), "f")
	a, b := openFile(t, n, unix.O_RDWR), openFile(t, n, unix.O_RDWR)
	locks := Locks[int]{Max: 3}
	locks.Lock()
	defer locks.Unlock()
	set := func(f *File, owner int, l unix.Flock_t, err error) {
		t.Helper()
		want(t, "a lock", locks.Set(f, owner, l), err)
	}
	set(a, 1, lock(unix.F_RDLCK, 0, 0), nil)
	set(a, 2, lock(unix.F_RDLCK, 0, 5), nil)
	set(b, 3, lock(unix.F_RDLCK, 0, 0), nil)
	set(b, 1, lock(unix.F_RDLCK, 0, 0), unix.ENOLCK) // one more file
	set(a, 4, lock(unix.F_RDLCK, 0, 0), unix.ENOLCK) // one more owner
	set(a, 1, lock(unix.F_RDLCK, 0, 0), nil)
	if got := locks.Sole(a); !slices.Equal(got, []int{1}) {
		t.Errorf("the owners of the whole file by a alone are %v, want 1", got)
	}
	locks.Drop(a, 2)
	set(b, 1, lock(unix.F_RDLCK, 0, 0), nil)
	if got := locks.Sole(a); len(got) != 0 {
		t.Errorf("an owner by two files is %v", got)
	}
	locks.Give(b, 3, 1) // who has some
	if !locks.Has(b, 3) {
		t.Error("locks were given to one that has some")
	}
	locks.Drop(b, 1)
	locks.Give(b, 3, 7)
	locks.Give(b, 3, 8)
	if locks.Has(b, 3) || !locks.Has(b, 7) || locks.Has(b, 8) {
		t.Error("locks were not given away")
	}
	set(a, 8, lock(unix.F_WRLCK, 0, 0), unix.EAGAIN)
	set(b, 7, lock(unix.F_UNLCK, 0, 0), nil)
	set(a, 8, lock(unix.F_WRLCK, 0, 0), nil)
	locks.Close(b)
	locks.Close(a)
	if locks.held != 0 || len(locks.owners) != 0 || len(locks.files) != 0 {
		t.Errorf("there are left %d, %v, %v", locks.held, locks.owners, locks.files)
	}
}

// Where nothing can be written an exclusive lock is a shared one.
func TestLocksOfReadOnly(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	tree := open(t, Share{Path: dir, ReadOnly: true})
	f := openFile(t, at(t, tree, "f"), 0)
	locks := Locks[int]{Max: 10}
	locks.Lock()
	defer locks.Unlock()
	want(t, "one", locks.Set(f, 1, lock(unix.F_WRLCK, 0, 0)), nil)
	want(t, "two", locks.Set(f, 2, lock(unix.F_WRLCK, 0, 0)), nil)
	l := lock(unix.F_WRLCK, 0, 0)
	if err := locks.Get(f, 3, &l); l.Type != unix.F_RDLCK || err != nil {
		t.Errorf("in the way is %+v, %v", l, err)
	}
	locks.Close(f)
}

func TestFlock(t *testing.T) {
	dir := t.TempDir()
	p := put(t, dir, "f", "")
	n := at(t, open(t, Share{Path: dir}), "f")
	a, b := openFile(t, n, 0), openFile(t, n, 0)
	host, err := os.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	want(t, "shared", a.Flock(unix.LOCK_SH), nil)
	want(t, "shared by another", b.Flock(unix.LOCK_SH|unix.LOCK_NB), nil)
	want(t, "exclusive", a.Flock(unix.LOCK_EX), unix.EAGAIN)
	want(t, "unlock", b.Flock(unix.LOCK_UN), nil)
	want(t, "exclusive after that", a.Flock(unix.LOCK_EX), nil)
	want(t, "the host", unix.Flock(int(host.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EAGAIN)
	want(t, "unlock", a.Flock(unix.LOCK_UN), nil)
	want(t, "the host after that", unix.Flock(int(host.Fd()), unix.LOCK_EX|unix.LOCK_NB), nil)
	want(t, "what the host has", b.Flock(unix.LOCK_SH), unix.EAGAIN)
	want(t, "another kind", a.Flock(32), unix.EINVAL)
}
