//go:build linux

package vhostuser

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/byrevm/byre/internal/vsock"
)

// bufAlloc is the receive buffer that each connection offers the guest.
const bufAlloc = 256 << 10

// maxCredit caps what a guest's buf_alloc is taken for, so that the differences
// of the 32-bit counters stay unambiguous.
const maxCredit = 1 << 30

// A key tells the connections of one device apart.
type key struct{ local, remote uint32 } // ports of host and guest

// A Conn is a stream between this process and a socket of the guest. It is a
// net.Conn with half-close; all methods may be called concurrently.
//
// A Write returns when its bytes are in the guest's memory, so that Close loses
// nothing that was written. Reads return everything that the guest sent before
// they report how the connection ended.
type Conn struct {
	d *Device
	key
	listed bool // in the outbox's control list; guarded by its mutex

	readable atomic.Pointer[func(yield func())] // see OnReadable

	rmu, wmu sync.Mutex // one Read, one Write at a time; taken before mu

	mu           sync.Mutex
	rcond, wcond sync.Cond // for rdl, wdl and everything below

	rdl, wdl deadline

	// From the guest.
	in        buffer
	fwd, told uint32 // bytes that left in, and what the guest was last told of that
	peerShut  uint32 // flags of its shutdown packets

	// To the guest: bytes sent, and its last word on its buffer.
	sent, peerFwd, peerAlloc uint32
	asked                    bool // for credit, since its last word
	turn                     bool // the outbox has room
	writing                  bool // a Write is between its first and last packet

	pending  uint32 // control packets that wait: bits 1<<op
	shut     uint32 // what this end has shut down
	shutSent uint32 // and told the guest
	dialing  bool   // no answer yet
	refused  bool   // the answer was no
	gone     bool   // the guest has no such connection any more
	err      error  // why, if it was not orderly
	closed   bool   // by Close
	linger   *time.Timer
	answer   chan struct{} // closed when dialing is over
}

func newConn(d *Device, k key) *Conn {
	c := &Conn{d: d, key: k, answer: make(chan struct{})}
	c.rcond.L, c.wcond.L = &c.mu, &c.mu
	return c
}

var _ net.Conn = (*Conn)(nil)

// LocalAddr returns the host's end, a [vsock.Addr].
func (c *Conn) LocalAddr() net.Addr { return vsock.Addr{CID: vsock.CIDHost, Port: c.local} }

// RemoteAddr returns the guest's end, a [vsock.Addr].
func (c *Conn) RemoteAddr() net.Addr { return vsock.Addr{CID: uint32(c.d.cid), Port: c.remote} }

// Read reads what the guest sent. When the guest has shut down its sending side
// Read returns io.EOF after the last byte; after a reset, or when the VM is gone,
// it returns an error that wraps syscall.ECONNRESET, also after the last byte.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.rmu.Lock()
	defer c.rmu.Unlock()
	c.mu.Lock()
	if err := c.waitData(); err != nil {
		c.mu.Unlock()
		return 0, c.opError("read", err)
	}
	n := c.in.read(p)
	tell := c.consumed(n)
	c.mu.Unlock()
	if tell {
		c.d.rx.tell(c)
	}
	return n, nil
}

// WriteTo writes what the guest sends to w until the stream ends, without a
// copy in between. A reset is an error, the end of the stream is not.
func (c *Conn) WriteTo(w io.Writer) (total int64, err error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	for {
		c.mu.Lock()
		if err := c.waitData(); err != nil {
			c.mu.Unlock()
			if err == io.EOF { //nolint:errorlint // a device that ended wraps it and is no end of file
				return total, nil
			}
			return total, c.opError("read", err)
		}
		p := c.in.peek()
		c.mu.Unlock()
		n, err := w.Write(p)
		n = max(0, min(n, len(p)))
		total += int64(n)
		c.mu.Lock()
		tell := c.in.n >= n && c.consume(n) // less after CloseRead
		c.mu.Unlock()
		if tell {
			c.d.rx.tell(c)
		}
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
}

// waitData waits until there is something to read. c.mu is held.
func (c *Conn) waitData() error {
	for {
		if ready, err := c.data(); ready || err != nil {
			return err
		}
		c.rcond.Wait()
	}
}

// data reports whether there is something to read, or why there never will be.
// c.mu is held.
func (c *Conn) data() (ready bool, err error) {
	switch {
	case c.closed:
		return false, net.ErrClosed
	case c.shut&shutRecv != 0:
		return false, io.EOF
	case c.rdl.expired:
		return false, errTimeout
	case c.in.n > 0:
		return true, nil
	case c.peerShut&shutSend != 0:
		return false, io.EOF
	case c.gone:
		return false, c.err
	}
	return false, nil
}

// consume drops n bytes of the receive buffer; see consumed.
func (c *Conn) consume(n int) bool {
	c.in.skip(n)
	return c.consumed(n)
}

// consumed counts n bytes as read and reports whether the guest must be told:
// when it could believe the buffer half full, which it is not.
func (c *Conn) consumed(n int) bool {
	c.fwd += uint32(n)
	if c.gone || c.fwd-c.told < bufAlloc/4 {
		return false
	}
	c.pending |= 1 << opCreditUpdate
	return true
}

// Write sends p to the guest and returns when all of it is in the guest's
// memory, which may have to wait until the program there reads. After CloseWrite,
// or when the guest does not want to receive, it returns syscall.EPIPE.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.mu.Lock()
	if err := c.writeError(); err != nil {
		c.mu.Unlock()
		return 0, c.opError("write", err)
	}
	c.writing = true
	c.mu.Unlock()
	for n < len(p) {
		m, w := c.d.rx.write(c, p[n:])
		n += m
		if w != waitNothing && n < len(p) {
			if err = c.waitWrite(w); err != nil {
				err = c.opError("write", err)
				c.d.rx.quit(c)
				break
			}
		}
	}
	c.mu.Lock()
	c.writing = false
	tell := c.pendShutdown()
	c.mu.Unlock()
	if tell {
		c.d.rx.tell(c)
	}
	return n, err
}

// writeError reports why c cannot be written, if so. c.mu is held.
func (c *Conn) writeError() error {
	switch {
	case c.closed:
		return net.ErrClosed
	case c.shut&shutSend != 0, c.peerShut&shutRecv != 0:
		return syscall.EPIPE
	case c.gone:
		if c.err == io.EOF { //nolint:errorlint // as above
			return syscall.EPIPE
		}
		return c.err
	case c.wdl.expired:
		return errTimeout
	}
	return nil
}

func (c *Conn) waitWrite(w waitFor) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if err := c.writeError(); err != nil {
			return err
		}
		if w == waitCredit && c.credit() > 0 {
			return nil
		}
		if w == waitTurn && c.turn {
			c.turn = false
			return nil
		}
		c.wcond.Wait()
	}
}

// Close ends the connection: the guest reads what was written and then the end
// of the stream. It does not wait for that; if the guest has not let go of the
// connection after ten seconds it is reset. A second call does nothing.
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.rdl.start(&c.rcond, time.Time{})
	c.wdl.start(&c.wcond, time.Time{})
	if !c.gone {
		c.linger = time.AfterFunc(c.d.lingerTime, c.expire)
	}
	c.shutdown(shutBoth)
	return nil
}

// CloseWrite tells the guest that nothing more will be written: it reads the end
// of the stream after what was. A second call does nothing.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.shutdown(shutSend)
	return nil
}

// CloseRead tells the guest that nothing more will be read, drops what was not
// and makes Read return io.EOF. A second call does nothing.
func (c *Conn) CloseRead() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.opError("close", net.ErrClosed)
	}
	c.shutdown(shutRecv)
	return nil
}

// shutdown takes c.mu held and releases it.
func (c *Conn) shutdown(flags uint32) {
	c.shut |= flags
	if flags&shutRecv != 0 {
		c.fwd += uint32(c.in.n)
		c.in = buffer{}
	}
	tell := c.pendShutdown()
	c.rcond.Broadcast()
	c.wcond.Broadcast()
	c.mu.Unlock()
	if tell {
		c.d.rx.tell(c)
	}
}

// pendShutdown makes a shutdown packet pending if there is news for the guest. A
// Write under way comes first: it ends at once and calls this again.
func (c *Conn) pendShutdown() bool {
	if c.gone || c.shutFlags()&^c.shutSent == 0 {
		return false
	}
	c.pending |= 1 << opShutdown
	return true
}

func (c *Conn) shutFlags() uint32 {
	if c.writing {
		return c.shut &^ shutSend
	}
	return c.shut
}

// opError wraps as package net does; io.EOF stays itself.
func (c *Conn) opError(op string, err error) error {
	if err == io.EOF { //nolint:errorlint // as above
		return err
	}
	return &net.OpError{Op: op, Net: "vsock", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
