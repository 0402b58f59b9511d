//go:build linux

package p9

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A client speaks the protocol as a well-behaved kernel does.
type client struct {
	t  *testing.T
	nc net.Conn

	wmu sync.Mutex
	mu  sync.Mutex
	tag uint16
	got map[uint16]chan []byte
	err error
}

func pipe(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) net.Conn {
		f := os.NewFile(uintptr(fd), "")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return conn(fds[0]), conn(fds[1])
}

// newServer returns a server that must have let go of everything when the
// test ends.
func newServer(t *testing.T, c Config) *Server {
	t.Helper()
	s := NewServer(c)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if n := s.files.Held(); n != 0 {
			t.Errorf("%d files are open after Close", n)
		}
		if n := s.fids.Load(); n != 0 {
			t.Errorf("%d fids are there after Close", n)
		}
		if n := s.xattrs.Load(); n != 0 {
			t.Errorf("%d bytes of attributes are held after Close", n)
		}
		if !s.buffers.TryAcquire(int64(s.config.MaxBuffers)) {
			t.Error("buffers are held after Close")
		}
	})
	return s
}

func dial(t *testing.T, s *Server) net.Conn { return dialOn(t, s, nil) }

func dialOn(t *testing.T, s *Server, wrap func(net.Conn) net.Conn) net.Conn {
	t.Helper()
	ours, theirs := pipe(t)
	if wrap != nil {
		theirs = wrap(theirs)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ServeConn(theirs)
	}()
	t.Cleanup(func() {
		ours.Close()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("a connection goes on after its client has gone")
		}
	})
	return ours
}

// newClient connects and negotiates.
func newClient(t *testing.T, s *Server) *client { return newClientOn(t, s, nil) }

// newClientOn is newClient with what wrap makes of the server's end.
func newClientOn(t *testing.T, s *Server, wrap func(net.Conn) net.Conn) *client {
	t.Helper()
	c := &client{t: t, nc: dialOn(t, s, wrap), got: make(map[uint16]chan []byte)}
	go c.receive()
	var e encoder
	e.u32(1 << 20)
	e.str(version)
	d, err := c.roundTrip(tVersion, noTag, e.b)
	if err != nil {
		t.Fatal(err)
	}
	if d.u32(); d.str() != version {
		t.Fatal("the server has another version")
	}
	return c
}

func (c *client) receive() {
	for {
		b, err := readMessage(c.nc)
		c.mu.Lock()
		if err != nil {
			c.err = err
			for _, ch := range c.got {
				close(ch)
			}
			c.got = nil
			c.mu.Unlock()
			return
		}
		tag := binary.LittleEndian.Uint16(b[5:])
		ch := c.got[tag]
		delete(c.got, tag)
		c.mu.Unlock()
		if ch != nil {
			ch <- b
		}
	}
}

func readMessage(r io.Reader) ([]byte, error) {
	h := make([]byte, headerSize)
	if _, err := io.ReadFull(r, h); err != nil {
		return nil, err
	}
	b := append(h, make([]byte, binary.LittleEndian.Uint32(h)-headerSize)...)
	_, err := io.ReadFull(r, b[headerSize:])
	return b, err
}

func message(typ uint8, tag uint16, body []byte) []byte {
	var e encoder
	e.begin(nil, typ, tag)
	e.b = append(e.b, body...)
	return e.finish()
}

// send sends a request and returns where its answer will be.
func (c *client) send(typ uint8, tag uint16, body []byte) (<-chan []byte, error) {
	ch := make(chan []byte, 1)
	c.mu.Lock()
	if c.got == nil {
		c.mu.Unlock()
		return nil, c.err
	}
	c.got[tag] = ch
	c.mu.Unlock()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, err := c.nc.Write(message(typ, tag, body))
	return ch, err
}

func (c *client) roundTrip(typ uint8, tag uint16, body []byte) (decoder, error) {
	ch, err := c.send(typ, tag, body)
	if err != nil {
		return decoder{}, err
	}
	return c.result(typ, ch)
}

func (c *client) result(typ uint8, ch <-chan []byte) (decoder, error) {
	select {
	case b, ok := <-ch:
		if !ok {
			return decoder{}, c.err
		}
		d := decoder{b: b[headerSize:]}
		if b[4] == rLerror {
			return decoder{}, unix.Errno(d.u32())
		}
		if b[4] != typ+1 {
			return d, fmt.Errorf("message %d answers %d", b[4], typ)
		}
		return d, nil
	case <-time.After(20 * time.Second):
		return decoder{}, errors.New("no answer")
	}
}

func (c *client) nextTag() uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tag++
	return c.tag & 0x7fff
}

// rpc encodes args by their types: uint8, uint16, uint32, uint64, string,
// []byte (as they are).
func (c *client) rpc(typ uint8, args ...any) (decoder, error) {
	return c.roundTrip(typ, c.nextTag(), body(args...))
}

func body(args ...any) []byte {
	var e encoder
	for _, a := range args {
		switch v := a.(type) {
		case uint8:
			e.u8(v)
		case uint16:
			e.u16(v)
		case uint32:
			e.u32(v)
		case uint64:
			e.u64(v)
		case string:
			e.str(v)
		case []byte:
			e.b = append(e.b, v...)
		default:
			panic(fmt.Sprintf("%T", a))
		}
	}
	return e.b
}

func (c *client) attach(fid uint32, name string, uid uint32) error {
	_, err := c.rpc(tAttach, fid, noFid, "root", name, uid)
	return err
}

// walk returns how many of names lead somewhere.
func (c *client) walk(fid, newFid uint32, names ...string) (int, error) {
	args := []any{fid, newFid, uint16(len(names))}
	for _, n := range names {
		args = append(args, n)
	}
	d, err := c.rpc(tWalk, args...)
	if err != nil {
		return 0, err
	}
	return int(d.u16()), nil
}

func (c *client) open(fid, flags uint32) error {
	_, err := c.rpc(tLopen, fid, flags)
	return err
}

func (c *client) create(fid uint32, name string, flags, mode, gid uint32) error {
	_, err := c.rpc(tLcreate, fid, name, flags, mode, gid)
	return err
}

func (c *client) read(fid uint32, off uint64, n uint32) ([]byte, error) {
	d, err := c.rpc(tRead, fid, off, n)
	if err != nil {
		return nil, err
	}
	return d.bytes(int(d.u32())), nil
}

func (c *client) write(fid uint32, off uint64, b []byte) (int, error) {
	d, err := c.rpc(tWrite, fid, off, uint32(len(b)), b)
	return int(d.u32()), err
}

func (c *client) clunk(fid uint32) error {
	_, err := c.rpc(tClunk, fid)
	return err
}

type attr struct {
	qid            qid
	mode, uid, gid uint32
	nlink, rdev    uint64
	size, blocks   uint64
	atime, mtime   int64
}

func (c *client) getattr(fid uint32) (a attr, err error) {
	d, err := c.rpc(tGetattr, fid, uint64(statsBasic))
	if err != nil {
		return a, err
	}
	d.u64()
	a.qid = qid{d.u8(), d.u32(), d.u64()}
	a.mode, a.uid, a.gid = d.u32(), d.u32(), d.u32()
	a.nlink, a.rdev, a.size = d.u64(), d.u64(), d.u64()
	d.u64()
	a.blocks = d.u64()
	a.atime = int64(d.u64())
	d.u64()
	a.mtime = int64(d.u64())
	d.bytes(6 * 8)
	if d.u64(); !d.done() {
		return a, errors.New("the answer has another length")
	}
	return a, nil
}

// readdir returns the names of a folder, by answers of at most count bytes.
func (c *client) readdir(fid uint32, count uint32) ([]string, error) {
	var names []string
	for off := uint64(0); ; {
		d, err := c.rpc(tReaddir, fid, off, count)
		if err != nil {
			return nil, err
		}
		if d.u32() == 0 {
			return names, nil
		}
		for len(d.b) > 0 {
			d.bytes(13)
			off = d.u64()
			d.u8()
			names = append(names, d.str())
		}
	}
}

// at walks from fid 0 to a path of one or more names, by a new fid.
func (c *client) at(t *testing.T, fid uint32, names ...string) uint32 {
	t.Helper()
	if n, err := c.walk(0, fid, names...); err != nil || n != len(names) {
		t.Fatalf("walk %q: %d of %d names, error %v", names, n, len(names), err)
	}
	return fid
}

// mount serves dir and attaches to it as fid 0.
func mount(t *testing.T, sh Share) *client {
	t.Helper()
	s := newServer(t, Config{})
	sh.Name = "share"
	if err := s.Add(sh); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, s)
	if err := c.attach(0, "share", 0); err != nil {
		t.Fatal(err)
	}
	return c
}

func want(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func put(t *testing.T, dir, name, text string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}
