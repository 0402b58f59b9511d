package virtiofs

import (
	"math"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// lockArgs are the members of a request on a lock of fcntl of n bytes; zero is
// all that follows.
func lockArgs(fh, owner, first, n uint64, typ int) []byte {
	last := first + n - 1
	if n == 0 {
		last = math.MaxInt64
	}
	return ints(fh, owner, first, last, uint32(typ), uint32(owner+1000), uint32(0), uint32(0))
}

func flockArgs(fh uint64, typ int) []byte {
	return ints(fh, fh+7, uint64(0), uint64(math.MaxInt64), uint32(typ), uint32(1), uint32(lockFlock), uint32(0))
}

func (g *guest) setlk(node uint64, args []byte) error {
	g.t.Helper()
	b, err := g.call(opSetlk, node, args)
	if len(b) > 0 {
		g.t.Fatalf("SETLK answers %x", b)
	}
	return err
}

// getlk returns "what first last pid" of what is in the way.
func (g *guest) getlk(node uint64, args []byte) (first, last uint64, typ, pid uint32) {
	g.t.Helper()
	d := g.must(g.call(opGetlk, node, args))
	first, last, typ, pid = d.u64(), d.u64(), d.u32(), d.u32()
	if !d.done() {
		g.t.Fatal("GETLK answers something else")
	}
	return first, last, typ, pid
}

func (g *guest) flush(node, fh, owner uint64) {
	g.t.Helper()
	g.must(g.call(opFlush, node, fh, uint32(0), uint32(0), owner))
}

// lockedFile returns a guest that has the file f of a share open so often.
func lockedFile(t *testing.T, handles int) (g *guest, node uint64, fh []uint64, path string) {
	t.Helper()
	dir := folder(t, "f", "0123456789")
	g = newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir})
	node = g.walk("s", "f").node
	for range handles {
		fh = append(fh, g.open(node, unix.O_RDWR))
	}
	return g, node, fh, filepath.Join(dir, "f")
}

const (
	rd = unix.F_RDLCK
	wr = unix.F_WRLCK
	un = unix.F_UNLCK
)

func TestLockOfParts(t *testing.T) {
	g, node, fh, path := lockedFile(t, 3)
	host := newLocker(t, path)
	try := func(what string, fh, owner, first, n uint64, typ int, want error) {
		t.Helper()
		wantErr(t, what, g.setlk(node, lockArgs(fh, owner, first, n, typ)), want)
	}
	try("first", fh[0], 1, 0, 5, wr, nil)
	try("another process", fh[1], 2, 0, 5, wr, unix.EAGAIN)
	try("another process by the same handle", fh[0], 2, 4, 5, rd, unix.EAGAIN)
	try("another part", fh[1], 2, 5, 5, wr, nil)
	try("the same process by another handle", fh[2], 1, 0, 2, wr, nil)
	try("as large as can be", fh[0], 1, 1000, 0, rd, nil)
	try("its last byte", fh[1], 2, math.MaxInt64, 1, wr, unix.EAGAIN)
	try("shared", fh[1], 2, math.MaxInt64, 1, rd, nil)

	host.do("read 0 1", unix.EAGAIN)
	host.do("read 5 1", unix.EAGAIN)
	host.do("write 1000 1", unix.EAGAIN)
	host.do("read 1000 1", nil)
	host.do("write 100 2", nil)
	try("what the host has", fh[0], 1, 101, 5, rd, unix.EAGAIN)
	host.do("read 100 2", nil)
	try("what the host shares", fh[0], 1, 101, 5, rd, nil)
	host.do("unlock 0 0", nil)

	if f, l, typ, pid := g.getlk(node, lockArgs(fh[1], 3, 2, 100, rd)); f != 0 && f != 5 || typ != wr || pid != 1000+1 && pid != 1000+2 || l != f+4 {
		t.Errorf("in the way: %d to %d, type %d, of %d", f, l, typ, pid)
	}
	if f, l, typ, pid := g.getlk(node, lockArgs(fh[1], 1, 0, 5, wr)); f != 0 || l != 4 || typ != un || pid != 1001 && pid != 0 {
		t.Errorf("its own: %d to %d, type %d, of %d", f, l, typ, pid)
	}
	host.do("write 200 10", nil)
	if f, l, typ, pid := g.getlk(node, lockArgs(fh[1], 1, 205, 0, rd)); f != 200 || l != 209 || typ != wr || pid != 0 {
		t.Errorf("the host's: %d to %d, type %d, of %d", f, l, typ, pid)
	}
	host.do("unlock 0 0", nil)

	try("unlock of what is another's", fh[1], 3, 0, 0, un, nil)
	part := lockArgs(fh[0], 1, 1, 2, un)
	copy(part[36:], make([]byte, 4)) // as Linux does
	wantErr(t, "a part of it", g.setlk(node, part), nil)
	if f, l, typ, pid := g.getlk(node, lockArgs(fh[1], 3, 3, 1, rd)); f != 3 || l != 4 || typ != wr || pid != 1001 {
		t.Errorf("what is left: %d to %d, type %d, of %d", f, l, typ, pid)
	}
	host.do("write 1 2", nil)
	host.do("write 0 1", unix.EAGAIN)
	host.do("unlock 0 0", nil)

	g.flush(node, fh[2], 1)
	host.do("write 0 5", nil)
	host.do("write 5 1", unix.EAGAIN)
	host.do("unlock 0 0", nil)
	try("again", fh[0], 1, 0, 1, wr, nil)
	try("and by a second handle", fh[2], 1, 0, 1, wr, nil)
	g.close(node, fh[0])
	host.do("write 0 1", unix.EAGAIN)
	g.close(node, fh[2])
	host.do("write 0 1", nil)
	host.do("unlock 0 0", nil)
	try("unlock all", fh[1], 2, 0, 0, un, nil)
	host.do("write 0 0", nil)
}

func TestFlock(t *testing.T) {
	g, node, fh, path := lockedFile(t, 3)
	host := newLocker(t, path)
	try := func(what string, fh uint64, typ int, want error) {
		t.Helper()
		wantErr(t, what, g.setlk(node, flockArgs(fh, typ)), want)
	}
	try("shared", fh[0], rd, nil)
	try("shared by another", fh[1], rd, nil)
	host.do("exclusive", unix.EAGAIN)
	host.do("shared", nil)
	host.do("none", nil)
	try("for one alone", fh[1], wr, unix.EAGAIN)
	host.do("exclusive", unix.EAGAIN)
	// Who asked in vain has lost what it had, as on Linux.
	try("for the other alone", fh[0], wr, nil)
	host.do("shared", unix.EAGAIN)
	try("shared again", fh[0], rd, nil)
	host.do("shared", nil)
	try("for one alone, while the host has it", fh[0], wr, unix.EAGAIN)
	host.do("exclusive", nil)
	try("shared, while the host has it", fh[1], rd, unix.EAGAIN)
	host.do("none", nil)
	try("not of fcntl", fh[0], wr, nil)
	host.do("write 0 0", nil)
	wantErr(t, "nor of fcntl in the guest", g.setlk(node, lockArgs(fh[1], 1, 0, 0, rd)), unix.EAGAIN)
	host.do("unlock 0 0", nil)
	g.flush(node, fh[0], fh[0]+7)
	host.do("shared", unix.EAGAIN)
	g.close(node, fh[0])
	host.do("exclusive", nil)
	host.do("none", nil)
	try("unlock of nothing", fh[2], un, nil)
	try("one more", fh[2], wr, nil)
	try("unlock", fh[2], un, nil)
	host.do("exclusive", nil)

	d := g.walk("s").node
	fd := g.opendir(d)
	wantErr(t, "a folder", g.setlk(d, flockArgs(fd, wr)), nil)
}

// TestLockReadOnly has a share whose files cannot be opened for writing: what
// the guest locks for one alone is shared on the host.
func TestLockReadOnly(t *testing.T) {
	dir := folder(t, "f", "0123456789")
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir, ReadOnly: true})
	node := g.walk("s", "f").node
	fh := g.open(node, unix.O_RDONLY)
	host := newLocker(t, filepath.Join(dir, "f"))
	wantErr(t, "exclusive", g.setlk(node, lockArgs(fh, 1, 0, 5, wr)), nil)
	host.do("write 0 5", unix.EAGAIN)
	host.do("read 0 5", nil)
	wantErr(t, "in the guest", g.setlk(node, lockArgs(fh, 2, 0, 5, rd)), unix.EAGAIN)
	host.do("shared", nil)
	wantErr(t, "flock", g.setlk(node, flockArgs(fh, wr)), unix.EAGAIN)
	host.do("none", nil)
	wantErr(t, "flock", g.setlk(node, flockArgs(fh, wr)), nil)
	host.do("shared", unix.EAGAIN)
}

// TestLockTwoShares has one file in two shares: they are two files to the guest.
func TestLockTwoShares(t *testing.T) {
	dir := folder(t, "f", "0123456789")
	g := newGuest(t, Config{}, hostfs.Share{Name: "s", Path: dir}, hostfs.Share{Name: "t", Path: dir})
	n1, n2 := g.walk("s", "f").node, g.walk("t", "f").node
	fh1, fh2 := g.open(n1, unix.O_RDWR), g.open(n2, unix.O_RDWR)
	wantErr(t, "one", g.setlk(n1, lockArgs(fh1, 1, 0, 5, wr)), nil)
	wantErr(t, "the other", g.setlk(n2, lockArgs(fh2, 1, 0, 5, wr)), unix.EAGAIN)
	g.flush(n2, fh2, 1)
	wantErr(t, "the other after FLUSH", g.setlk(n2, lockArgs(fh2, 1, 0, 5, wr)), unix.EAGAIN)
	wait := g.setlkw(n2, lockArgs(fh2, 1, 0, 5, wr))
	if err := g.s.Remove("s"); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "when the one is gone", wait(), nil)
}

func TestLockArguments(t *testing.T) {
	g, node, fh, _ := lockedFile(t, 1)
	good := lockArgs(fh[0], 1, 0, 5, wr)
	with := func(at int, b ...byte) []byte {
		args := append([]byte{}, good...)
		copy(args[at:], b)
		return args
	}
	for _, op := range []uint32{opGetlk, opSetlk, opSetlkw} {
		for _, tt := range []struct {
			what string
			args []byte
			want error
		}{
			{"short", good[:len(good)-1], unix.EINVAL},
			{"long", append(good[:len(good):len(good)], 0), unix.EINVAL},
			{"type", with(32, 9), unix.EINVAL},
			{"end before start", with(16, 6), unix.EINVAL},
			{"start too large", with(16, 0, 0, 0, 0, 0, 0, 0, 0x80), unix.EINVAL},
			{"end too large", with(24, 0, 0, 0, 0, 0, 0, 0, 0x80), unix.EINVAL},
			{"flags", with(40, 2), unix.EINVAL},
			{"part of flock", with(40, lockFlock), unix.EINVAL},
			{"handle", with(0, 99), unix.EBADF},
		} {
			_, err := g.call(op, node, tt.args)
			wantErr(t, tt.what, err, tt.want)
		}
		_, err := g.call(op, node+1000, good)
		wantErr(t, "node", err, unix.ESTALE)
		_, err = g.call(op, rootID, good)
		wantErr(t, "the root", err, unix.EBADF)
	}
	_, err := g.call(opGetlk, node, flockArgs(fh[0], wr))
	wantErr(t, "GETLK of flock", err, unix.EINVAL)
	_, err = g.call(opGetlk, node, lockArgs(fh[0], 1, 0, 5, un))
	wantErr(t, "GETLK of unlock", err, unix.EINVAL)
	if len(g.s.locks.files) > 0 {
		t.Errorf("%d files are left", len(g.s.locks.files))
	}
}

// TestLockLimits has a guest that locks too many parts, and by too many.
func TestLockLimits(t *testing.T) {
	g, node, fh, _ := lockedFile(t, 2)
	wantErr(t, "one", g.setlk(node, lockArgs(fh[0], 1, 0, 1, wr)), nil)
	t.Run("parts", func(t *testing.T) {
		defer g.s.locks.spans.Add(2 - maxLockSpans)
		g.s.locks.spans.Add(maxLockSpans - 2)
		wantErr(t, "one more", g.setlk(node, lockArgs(fh[0], 1, 2, 1, wr)), unix.ENOLCK)
		wantErr(t, "part of it", g.setlk(node, lockArgs(fh[0], 1, 0, 1, un)), unix.ENOLCK)
		wantErr(t, "all of it", g.setlk(node, lockArgs(fh[0], 1, 0, 0, un)), nil)
		wantErr(t, "after that", g.setlk(node, lockArgs(fh[0], 1, 2, 1, wr)), nil)
	})
	if n := g.s.locks.spans.Load(); n != 1 {
		t.Errorf("%d parts are counted", n)
	}
	t.Run("owners", func(t *testing.T) {
		defer func() { g.s.locks.host.Max = maxLocks }()
		g.s.locks.host.Max = 2
		wantErr(t, "a second", g.setlk(node, lockArgs(fh[0], 2, 4, 1, wr)), nil)
		wantErr(t, "a third", g.setlk(node, lockArgs(fh[0], 3, 6, 1, wr)), unix.ENOLCK)
		wantErr(t, "a second handle", g.setlk(node, lockArgs(fh[1], 2, 5, 1, wr)), unix.ENOLCK)
		g.flush(node, fh[0], 1)
		wantErr(t, "a third then", g.setlk(node, lockArgs(fh[0], 3, 6, 1, wr)), nil)
	})
	g.close(node, fh[0])
	if n := g.s.locks.spans.Load(); n != 0 || len(g.s.locks.files) > 0 {
		t.Errorf("%d parts of %d files are left", n, len(g.s.locks.files))
	}
}

// TestFlushWhileLocking has a process close the file while it locks it by another
// handle: both know of the lock afterwards, the server and the host, or neither.
func TestFlushWhileLocking(t *testing.T) {
	g, node, fh, _ := lockedFile(t, 2)
	locks := &g.s.locks
	key := ownerKey{node, 1}
	for range 100 {
		// The host has a description of the process, who has no lock.
		wantErr(t, "lock", g.setlk(node, lockArgs(fh[0], 1, 0, 2, wr)), nil)
		wantErr(t, "unlock", g.setlk(node, lockArgs(fh[0], 1, 0, 2, un)), nil)
		locks.host.Lock()
		flushed := make(chan struct{})
		go func() {
			defer close(flushed)
			g.flush(node, fh[0], 1)
		}()
		for range 100 {
			runtime.Gosched() // so that it waits
		}
		locks.host.Unlock()
		wantErr(t, "lock meanwhile", g.setlk(node, lockArgs(fh[1], 1, 0, 2, wr)), nil)
		<-flushed
		h, err := g.s.handle(fh[1], node)
		if err != nil {
			t.Fatal(err)
		}
		locks.host.Lock()
		host := locks.host.Has(h.file, key)
		locks.host.Unlock()
		h.release()
		if guest := locks.spans.Load() > 0; guest && !host {
			t.Fatal("the guest has a lock that the host does not have")
		}
		g.flush(node, fh[1], 1)
	}
}
