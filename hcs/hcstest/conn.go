package hcstest

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/byrevm/byre/hcs"
)

// maxBuffered is how much a connection holds that was not read yet.
const maxBuffered = 64 << 10

var errReset = fmt.Errorf("%w: the system has stopped", syscall.ECONNRESET)

// A half is one direction of a connection.
type half struct {
	mu     sync.Mutex
	change chan struct{} // closed and replaced when what follows changes
	buf    []byte
	closed bool  // nothing more is written
	gone   bool  // nobody reads any more
	err    error // the connection was reset
}

func newHalf() *half { return &half{change: make(chan struct{})} }

// update changes the half and wakes everybody who waits for it.
func (h *half) update(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.change)
	h.change = make(chan struct{})
}

func (h *half) read(b []byte, d *deadline) (int, error) {
	if err := d.wait(nil); err != nil {
		return 0, err
	}
	for {
		h.mu.Lock()
		n, err, change := copy(b, h.buf), error(nil), h.change
		switch {
		case h.gone:
			n, err = 0, net.ErrClosed
		case h.err != nil:
			n, err = 0, h.err
		case n > 0:
			h.buf = h.buf[n:]
			close(h.change)
			h.change = make(chan struct{})
		case h.closed:
			err = io.EOF
		}
		h.mu.Unlock()
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		if err := d.wait(change); err != nil {
			return 0, err
		}
	}
}

func (h *half) write(b []byte, d *deadline) (done int, err error) {
	for {
		if err := d.wait(nil); err != nil {
			return done, err
		}
		h.mu.Lock()
		n, change := min(len(b)-done, maxBuffered-len(h.buf)), h.change
		switch {
		case h.closed:
			err = net.ErrClosed
		case h.err != nil:
			err = h.err
		case h.gone:
			err = io.ErrClosedPipe
		case n > 0:
			h.buf = append(h.buf, b[done:done+n]...)
			done += n
			close(h.change)
			h.change = make(chan struct{})
		}
		h.mu.Unlock()
		if err != nil || done == len(b) {
			return done, err
		}
		if n > 0 {
			continue
		}
		if err := d.wait(change); err != nil {
			return done, err
		}
	}
}

// A deadline ends waits at a time that can be changed.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{} // closed at the time; replaced when it is moved
}

func newDeadline() *deadline { return &deadline{expired: make(chan struct{})} }

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	select {
	case <-d.expired:
		d.expired = make(chan struct{})
	default:
	}
	d.timer = nil
	if t.IsZero() {
		return
	}
	ch := d.expired
	if time.Until(t) <= 0 {
		close(ch)
		return
	}
	d.timer = time.AfterFunc(time.Until(t), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.expired == ch {
			select {
			case <-ch:
			default:
				close(ch)
			}
		}
	})
}

// wait waits for a change. A nil one has happened already.
func (d *deadline) wait(change <-chan struct{}) error {
	d.mu.Lock()
	expired := d.expired
	d.mu.Unlock()
	select {
	case <-expired:
		return os.ErrDeadlineExceeded
	default:
	}
	if change == nil {
		return nil
	}
	select {
	case <-change:
		return nil
	case <-expired:
		return os.ErrDeadlineExceeded
	}
}

// A conn is one end of a connection in memory. Like a socket, it buffers, and
// its directions can be closed by themselves.
type conn struct {
	r, w        *half
	rd, wd      *deadline
	local, peer addr
	once        sync.Once
	closed      func() // called at the first Close
}

// newConn returns the two ends of a connection between host and guest. closed
// is called when both have been closed.
func newConn(service hcs.ServiceID, closed func()) (host, guest *conn) {
	a, b := newHalf(), newHalf()
	h, g := addr{"host", service}, addr{"guest", service}
	var ends atomic.Int32
	end := func() {
		if ends.Add(1) == 2 {
			closed()
		}
	}
	host = &conn{r: a, w: b, rd: newDeadline(), wd: newDeadline(), local: h, peer: g, closed: end}
	guest = &conn{r: b, w: a, rd: newDeadline(), wd: newDeadline(), local: g, peer: h, closed: end}
	return host, guest
}

func (c *conn) Read(b []byte) (int, error)  { return c.r.read(b, c.rd) }
func (c *conn) Write(b []byte) (int, error) { return c.w.write(b, c.wd) }

// CloseWrite ends what the peer can read.
func (c *conn) CloseWrite() error {
	c.w.update(func() { c.w.closed = true })
	return nil
}

func (c *conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		err = nil
		c.CloseWrite()
		c.r.update(func() { c.r.gone, c.r.buf = true, nil })
		c.rd.set(time.Time{})
		c.wd.set(time.Time{})
		c.closed()
	})
	return err
}

// reset breaks the connection for both ends.
func (c *conn) reset() {
	for _, h := range []*half{c.r, c.w} {
		h.update(func() {
			if h.err == nil {
				h.err = errReset
			}
		})
	}
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.peer }

func (c *conn) SetDeadline(t time.Time) error {
	c.rd.set(t)
	c.wd.set(t)
	return nil
}
func (c *conn) SetReadDeadline(t time.Time) error  { c.rd.set(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.wd.set(t); return nil }

// An addr is a service on one side.
type addr struct {
	side    string
	service hcs.ServiceID
}

func (a addr) Network() string { return "memory" }
func (a addr) String() string  { return a.side + ":" + a.service.String() }
