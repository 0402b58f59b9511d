//go:build linux

package p9

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

var hello = message(tVersion, noTag, body(uint32(1<<20), version))

// ends sends what ends a connection, and reads until it has ended.
func ends(t *testing.T, what string, nc net.Conn, msgs ...[]byte) {
	t.Helper()
	for _, m := range msgs {
		nc.Write(m)
	}
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: the connection goes on", what)
	}
}

func TestProtocolErrors(t *testing.T) {
	s := newServer(t, Config{})
	size := func(n uint32) []byte {
		b := message(tWalk, 1, nil)
		binary.LittleEndian.PutUint32(b, n)
		return b
	}
	for what, msgs := range map[string][][]byte{
		"no version":              {message(tAttach, 1, nil)},
		"a version with a tag":    {message(tVersion, 1, body(uint32(8192), version))},
		"a request without a tag": {hello, message(tClunk, noTag, body(uint32(1)))},
		"an empty message":        {hello, size(0)},
		"less than a header":      {hello, size(6)},
		"a long request":          {hello, size(maxRequest + 1)},
		"the longest request":     {hello, size(0xffffffff)},
		"a long write":            {hello, func() []byte { b := size(1<<20 + 1); b[4] = tWrite; return b }()},
	} {
		ends(t, what, dial(t, s), msgs...)
	}
	// Half a message, and then nothing.
	for _, n := range []int{1, 6, 7, 10} {
		nc := dial(t, s)
		nc.Write(hello)
		nc.Write(message(tClunk, 1, body(uint32(1)))[:n])
		nc.(*net.UnixConn).CloseWrite()
		ends(t, "half a message", nc)
	}
	nc := dial(t, s)
	nc.Write(hello)
	b := message(tWrite, 1, body(uint32(1), uint64(0), uint32(1<<19), make([]byte, 1<<19)))
	nc.Write(b[:1<<18])
	nc.(*net.UnixConn).CloseWrite()
	ends(t, "half a write", nc)
}

func TestBadMessages(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "text")
	c := mount(t, Share{Path: dir})
	c.at(t, 1, "f")
	// Every type, too short and too long, and types that there are not.
	for typ := range 256 {
		if typ == tVersion {
			continue
		}
		for _, n := range []int{0, 1, 3, 7, 200} {
			b := make([]byte, n)
			for i := range b {
				b[i] = 0xff
			}
			_, err := c.rpc(uint8(typ), b)
			var e unix.Errno
			if !errors.As(err, &e) {
				t.Errorf("message %d of %d bytes: got %v, want a number", typ, n, err)
			}
		}
	}
	if _, err := c.getattr(1); err != nil {
		t.Errorf("what was there: %v", err)
	}
	for what, err := range map[string]error{
		"tauth":               rpcErr(c, 102, uint32(1), "", "", uint32(0)),
		"trename":             rpcErr(c, 20, uint32(1), uint32(0), "x"),
		"an authenticated":    rpcErr(c, tAttach, uint32(7), uint32(8), "root", "share", uint32(0)),
		"an attribute's file": rpcErr(c, tXattrwalk, uint32(1), uint32(9), "security.selinux"),
	} {
		want(t, what, err, unix.EOPNOTSUPP)
	}
	c.walk(0, 2)
	for what, err := range map[string]error{
		"a fid in use":        c.attach(2, "share", 0),
		"a walk to a fid":     rpcErr(c, tWalk, uint32(0), uint32(2), uint16(0)),
		"no fid":              rpcErr(c, tWalk, uint32(0), noFid, uint16(0)),
		"an attribute to one": rpcErr(c, tXattrwalk, uint32(1), uint32(2), ""),
		"read of no file":     rpcErr(c, tRead, uint32(2), uint64(0), uint32(1)),
		"write of no file":    rpcErr(c, tWrite, uint32(2), uint64(0), uint32(0)),
		"sync of no file":     rpcErr(c, tFsync, uint32(2), uint32(0)),
	} {
		if what == "an attribute to one" && errors.Is(err, unix.EOPNOTSUPP) {
			continue // of this file system
		}
		want(t, what, err, unix.EBADF)
	}
	if err := c.open(1, 0); err != nil {
		t.Fatal(err)
	}
	want(t, "open twice", c.open(1, 0), unix.EBADF)
	want(t, "create in an open file", c.create(1, "x", 0, 0, 0), unix.EBADF)
	want(t, "walk of an open file in place", rpcErr(c, tWalk, uint32(1), uint32(1), uint16(0)), unix.EBADF)
	want(t, "walk of 17 names", rpcErr(c, tWalk, uint32(0), uint32(9), uint16(17)), unix.EINVAL)
	want(t, "a link to a folder", rpcErr(c, tLink, uint32(0), uint32(0), "x"), unix.EPERM)
	want(t, "text of a file", rpcErr(c, tReadlink, uint32(1)), unix.EINVAL)
}

func TestTagsAndFlushes(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	c := mount(t, Share{Path: dir})
	if err := c.open(c.at(t, 1, "f"), openReadWrite); err != nil {
		t.Fatal(err)
	}
	if st, err := c.lock(1, lockWrite, 0, 0, 0, 1); st != lockSuccess {
		t.Fatal(err)
	}
	if _, err := c.rpc(tFlush, uint16(999)); err != nil {
		t.Errorf("flush of nothing: %v", err)
	}
	want(t, "half a flush", rpcErr(c, tFlush, uint8(1)), unix.EINVAL)
	// A flush of a flush is answered after both.
	const tag = 0x7000
	lock, _ := c.send(tLock, tag, body(lockArgs(1, lockWrite, lockFlagBlock, 0, 0, 2)...))
	f1, _ := c.send(tFlush, tag+1, body(uint16(tag)))
	f2, _ := c.send(tFlush, tag+2, body(uint16(tag+1)))
	_, err := c.result(tLock, lock)
	want(t, "lock", err, unix.EINTR)
	if _, err := c.result(tFlush, f1); err != nil {
		t.Error(err)
	}
	if _, err := c.result(tFlush, f2); err != nil {
		t.Error(err)
	}
	// One tag for two requests, and a version among others.
	wait := message(tLock, 5, body(lockArgs(1, lockWrite, lockFlagBlock, 0, 0, 2)...))
	for what, last := range map[string][]byte{
		"a tag twice": message(tClunk, 5, body(uint32(7))),
		"a version":   hello,
	} {
		c := newClient(t, c.server(t, dir))
		c.attach(0, "share", 0)
		c.open(c.at(t, 1, "f"), openReadWrite)
		c.lock(1, lockWrite, 0, 0, 0, 1)
		c.wmu.Lock()
		ends(t, what, c.nc, wait, last)
		c.wmu.Unlock()
	}
	// Many flushes of one request.
	many := newClient(t, c.server(t, dir))
	many.attach(0, "share", 0)
	many.open(many.at(t, 1, "f"), openReadWrite)
	many.lock(1, lockWrite, 0, 0, 0, 1)
	read, _ := many.send(tLock, 0x7000, body(lockArgs(1, lockWrite, lockFlagBlock, 0, 0, 2)...))
	for i := range uint16(1000) {
		if _, err := many.send(tFlush, 0x7001+i, body(uint16(0x7000))); err != nil {
			break
		}
	}
	many.result(tLock, read)
}

func (c *client) server(t *testing.T, dir string) *Server {
	s := newServer(t, Config{})
	if err := s.Add(Share{Name: "share", Path: dir}); err != nil {
		t.Fatal(err)
	}
	return s
}

// A session that begins anew has no fids.
func TestVersionAgain(t *testing.T) {
	c := mount(t, Share{Path: t.TempDir()})
	for _, v := range []string{version, "9P2000.u"} {
		d, err := c.roundTrip(tVersion, noTag, body(uint32(4096), v))
		if n := d.u32(); n != 4096 || err != nil {
			t.Errorf("message size %d, %v", n, err)
		}
		if got := d.str(); v == version && got != version || v != version && got != "unknown" {
			t.Errorf("version %q answers %q", got, v)
		}
		_, err = c.getattr(0)
		want(t, "an old fid", err, unix.EBADF)
	}
	_, err := c.roundTrip(tVersion, noTag, body(uint32(100), version))
	want(t, "a tiny message", err, unix.EINVAL)
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "text")
	s := newServer(t, Config{MaxFids: 10, MaxFiles: 15, MaxRequests: 2, MaxMessage: 8192, MaxBuffers: 1})
	if err := s.Add(Share{Name: "a", Path: dir}); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s)
	c.attach(0, "a", 0)
	for i := range uint32(9) {
		c.at(t, i+1, "f")
	}
	_, err := c.walk(0, 11, "f")
	want(t, "more fids", err, unix.ENFILE)
	// The root, 9 fids: 5 more.
	for i := range uint32(5) {
		if err := c.open(i+1, 0); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "more files", c.open(6, 0), unix.ENFILE)
	other := newClient(t, s)
	if err := other.attach(0, "a", 0); err != nil {
		t.Errorf("another client: %v", err)
	}
	_, err = other.walk(0, 1, "f")
	want(t, "another client's files", err, unix.ENFILE)
	if err := c.clunk(1); err != nil {
		t.Error(err)
	}
	if _, err := other.walk(0, 1, "f"); err != nil {
		t.Errorf("after a clunk: %v", err)
	}
	if b, err := c.read(2, 0, 1<<31); string(b) != "text" {
		t.Errorf("read: %q, %v", b, err)
	}
	big := make([]byte, 20000)
	put(t, dir, "big", string(big))
	c.clunk(2)
	if err := c.open(c.at(t, 2, "big"), 0); err != nil {
		t.Fatal(err)
	}
	if b, err := c.read(2, 0, 1<<31); len(b) != 8192-readHeader || err != nil {
		t.Errorf("read %d bytes, %v", len(b), err)
	}
}

// The memory for attributes is bounded whatever number of fids has some.
func TestXattrMemory(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	c := mount(t, Share{Path: dir})
	var err error
	n := uint32(0)
	for ; err == nil && n < 1000; n++ {
		c.at(t, n+1, "f")
		_, err = c.rpc(tXattrcreate, n+1, "user.x", uint64(hostfs.MaxXattr), uint32(0))
	}
	want(t, "all of them", err, unix.ENOBUFS)
	if n != maxXattrs/hostfs.MaxXattr+1 {
		t.Errorf("after %d, want %d", n, maxXattrs/hostfs.MaxXattr+1)
	}
}

// A client that does not read its answers holds up nobody else, and its
// connection ends with the server.
func TestClientDoesNotRead(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", string(make([]byte, 1<<20)))
	s := newServer(t, Config{MaxBuffers: 4 << 20})
	if err := s.Add(Share{Name: "a", Path: dir}); err != nil {
		t.Fatal(err)
	}
	nc := dial(t, s)
	nc.Write(hello)
	nc.Write(message(tAttach, 1, body(uint32(0), noFid, "", "a", uint32(0))))
	readMessage(nc)
	readMessage(nc)
	nc.Write(message(tWalk, 1, body(uint32(0), uint32(1), uint16(1), "f")))
	readMessage(nc)
	nc.Write(message(tLopen, 1, body(uint32(1), uint32(0))))
	readMessage(nc)
	for i := range uint16(40) {
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := nc.Write(message(tRead, i, body(uint32(1), uint64(0), uint32(1<<20)))); err != nil {
			break
		}
	}
	// Files of the share are let go of all the same.
	if err := s.Remove("a"); err != nil {
		t.Error(err)
	}
	if err := s.Add(Share{Name: "b", Path: dir}); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s)
	if err := c.attach(0, "b", 0); err != nil {
		t.Error(err)
	}
	c.at(t, 1, "f")
	if _, err := c.getattr(1); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Requests for the same fids from all sides, with shares that come and go.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "text")
	os.Mkdir(filepath.Join(dir, "d"), 0o755)
	s := newServer(t, Config{MaxFids: 50, MaxFiles: 60})
	stop := make(chan struct{})
	var wg, shares sync.WaitGroup
	shares.Go(func() {
		for {
			s.Add(Share{Name: "a", Path: dir})
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			s.Remove("a")
		}
	})
	for i := range 4 {
		var wrap func(net.Conn) net.Conn
		if i%2 == 1 {
			wrap = func(nc net.Conn) net.Conn { return &inline{Conn: nc} }
		}
		c := newClientOn(t, s, wrap)
		for g := range uint32(4) {
			wg.Go(func() {
				for i := range uint32(100) {
					fid := i*7%5 + g%2
					c.attach(fid, "a", 0)
					c.walk(fid, fid+1, "d")
					c.walk(fid, fid+2, "f")
					c.walk(fid+2, fid+2)
					c.open(fid+2, openReadWrite)
					c.create(fid+1, "x", openReadWrite, 0o644, 0)
					c.write(fid+1, 0, []byte("abc"))
					c.read(fid+2, 0, 8192)
					c.lock(fid+2, uint8(i%3), 0, uint64(i%4), uint64(i%2), i%3)
					c.rpc(tRenameat, fid, "f", fid+1, "y")
					c.rpc(tRenameat, fid+1, "y", fid, "f")
					c.rpc(tLink, fid, fid+2, "l")
					c.rpc(tUnlinkat, fid, "l", uint32(0))
					c.rpc(tXattrwalk, fid+2, fid+3, "")
					c.readdir(fid, 4096)
					c.clunk(fid + i%4)
				}
			})
		}
	}
	wg.Wait()
	close(stop)
	shares.Wait()
}

// FuzzSession sends anything to a session that has a file open.
func FuzzSession(f *testing.F) {
	f.Add([]byte{})
	f.Add(message(tWalk, 1, body(uint32(0), uint32(1), uint16(1), "f")))
	f.Add(message(tLcreate, 1, body(uint32(0), "new", uint32(2), uint32(0o644), uint32(0))))
	f.Add(message(tXattrcreate, 1, body(uint32(0), "user.x", uint64(1), uint32(0))))
	f.Add(append(message(tLock, 1, body(lockArgs(2, 1, 1, 0, 0, 1)...)), message(tFlush, 2, body(uint16(1)))...))
	f.Add(message(tWrite, 3, body(uint32(2), uint64(0), uint32(3), []byte("abc"))))
	for typ := range uint8(128) {
		f.Add(message(typ, 1, body(uint32(2), uint32(0), "f", uint32(1), uint64(2))))
	}
	outside := f.TempDir()
	dir := filepath.Join(outside, "share")
	if err := os.Mkdir(dir, 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		os.RemoveAll(dir)
		os.Mkdir(dir, 0o755)
		put(t, dir, "f", "text")
		os.Mkdir(filepath.Join(dir, "d"), 0o755)
		os.Symlink("..", filepath.Join(dir, "s"))
		s := newServer(t, Config{MaxFids: 20, MaxFiles: 40})
		if err := s.Add(Share{Name: "a", Path: dir}); err != nil {
			t.Fatal(err)
		}
		nc := dial(t, s)
		go io.Copy(io.Discard, nc)
		nc.Write(hello)
		nc.Write(message(tAttach, 100, body(uint32(0), noFid, "", "a", uint32(0))))
		nc.Write(message(tWalk, 101, body(uint32(0), uint32(2), uint16(1), "f")))
		nc.Write(message(tLopen, 102, body(uint32(2), uint32(2))))
		nc.Write(b)
		nc.(*net.UnixConn).CloseWrite()
		if err := s.Remove("a"); err != nil {
			t.Fatal(err)
		}
		left, err := os.ReadDir(outside)
		if err != nil || len(left) != 1 {
			t.Fatalf("outside of the share there is %v, %v", left, err)
		}
	})
}
