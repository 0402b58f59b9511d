//go:build linux

package p9

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// An inline stream calls the server on the goroutine that receives, as the
// vsock device does, but never lets another one receive by itself.
type inline struct {
	net.Conn
	yields atomic.Int32

	mu  sync.Mutex
	b   []byte
	err error
}

func (s *inline) OnReadable(f func(yield func())) { go s.receive(f, false) }

func (s *inline) receive(f func(yield func()), again bool) {
	for {
		var once sync.Once
		yielded := false
		yield := func() {
			once.Do(func() {
				yielded = true
				s.yields.Add(1)
				go s.receive(f, true)
			})
		}
		if again {
			again = false
			if f(yield); yielded {
				return
			}
			continue
		}
		b := make([]byte, 5000)
		n, err := s.Conn.Read(b)
		s.mu.Lock()
		s.b, s.err = append(s.b, b[:n]...), err
		s.mu.Unlock()
		if f(yield); yielded || err != nil {
			return
		}
	}
}

func (s *inline) TryRead(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.b) == 0 {
		return 0, s.err
	}
	n := copy(p, s.b)
	s.b = slices.Delete(s.b, 0, n)
	return n, nil
}

// What waits lets others receive, what does not is served at once.
func TestYields(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", string(make([]byte, 1<<20)))
	s := newServer(t, Config{})
	if err := s.Add(Share{Name: "share", Path: dir}); err != nil {
		t.Fatal(err)
	}
	var st *inline
	c := newClientOn(t, s, func(nc net.Conn) net.Conn { st = &inline{Conn: nc}; return st })
	yields := func(what string, want int32, do func() error) {
		t.Helper()
		before := st.yields.Load()
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if n := st.yields.Load() - before; n != want && want > 0 {
			t.Errorf("%s yields %d times, want %d", what, n, want)
		}
	}
	yields("attach", 0, func() error { return c.attach(0, "share", 0) })
	c.at(t, 1, "f")
	yields("open", 0, func() error { return c.open(1, openReadWrite) })
	yields("a short read", 0, func() error { _, err := c.read(1, 0, 100); return err })
	yields("a long read", 1, func() error { _, err := c.read(1, 0, 500_000); return err })
	yields("a write", 0, func() error { _, err := c.write(1, 0, make([]byte, 500_000)); return err })
	yields("fsync", 1, func() error { _, err := c.rpc(tFsync, uint32(1), uint32(0)); return err })
	// A lock that waits holds up nothing.
	if st, err := c.lock(1, lockWrite, 0, 0, 0, 1); st != lockSuccess {
		t.Fatal(err)
	}
	waiting, _ := c.send(tLock, 0x7000, body(lockArgs(1, lockWrite, lockFlagBlock, 0, 0, 2)...))
	if _, err := c.getattr(1); err != nil {
		t.Error(err)
	}
	if _, err := c.rpc(tFlush, uint16(0x7000)); err != nil {
		t.Error(err)
	}
	_, err := c.result(tLock, waiting)
	want(t, "the lock", err, unix.EINTR)
}

// After a slow request the next ones are expected to be slow, for a while.
func TestWary(t *testing.T) {
	c := &conn{}
	c.judge(slowRequest / 2)
	if n := c.wary.Load(); n != 0 {
		t.Errorf("after a fast one: %d", n)
	}
	c.judge(2 * slowRequest)
	for i := range int32(wary) {
		if n := c.wary.Load(); n != wary-i {
			t.Errorf("%d requests after a slow one: %d", i, n)
		}
		c.judge(0)
	}
	if n := c.wary.Load(); n != 0 {
		t.Errorf("at the end: %d", n)
	}
}
