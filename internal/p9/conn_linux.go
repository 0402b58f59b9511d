package p9

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A conn is one client. Its workers take turns at reading: who has read a
// request lets the next one read and serves the request itself, so that none
// changes hands. When all workers are busy nobody reads, and the client waits.
type conn struct {
	s      *Server
	nc     net.Conn
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // workers

	msize atomic.Int64 // longest message; 0 before the first tVersion

	rmu     sync.Mutex // held by the worker whose turn it is to read; guards the next three
	in      []byte     // what was read and is not yet taken
	room    [maxRequest]byte
	workers int

	wmu sync.Mutex // held while an answer is written; taken before mu

	mu      sync.Mutex // held for moments only; guards the rest
	idle    int        // workers that wait to read
	fids    map[uint32]*fid
	tags    map[uint16]*request
	flushes int // tFlush that wait

	locks lockTable
}

// maxFlushes is how many tFlush may wait for their requests.
const maxFlushes = 128

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc, fids: make(map[uint32]*fid), tags: make(map[uint16]*request)}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	return c
}

// serve returns when the connection has ended and nothing of it is left.
func (c *conn) serve() error {
	context.AfterFunc(c.ctx, func() { c.nc.Close() })
	c.wg.Add(1)
	c.workers = 1
	c.work()
	c.wg.Wait()
	c.reset()
	c.nc.Close() // once more, so that it is done when serve returns
	if err := context.Cause(c.ctx); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (c *conn) work() {
	defer c.wg.Done()
	r := &request{c: c}
	for {
		c.mu.Lock()
		c.idle++
		c.mu.Unlock()
		c.rmu.Lock()
		err := context.Cause(c.ctx)
		if err == nil {
			err = c.read(r)
		}
		c.mu.Lock()
		c.idle--
		alone := c.idle == 0
		c.mu.Unlock()
		if err != nil {
			c.cancel(err) // before another one reads
			c.rmu.Unlock()
			return
		}
		if alone && c.workers < c.s.config.MaxRequests {
			c.workers++
			c.wg.Add(1)
			go c.work()
		}
		c.rmu.Unlock()
		if err := r.serve(); err != nil {
			c.cancel(err)
			return
		}
	}
}

// errProtocol ends a connection: what comes next is anybody's guess.
type errProtocol string

func (e errProtocol) Error() string { return "9p: " + string(e) }

// read reads and registers one request. c.rmu is held.
func (c *conn) read(r *request) error {
	if err := c.fill(headerSize); err != nil {
		return err
	}
	size := int(binary.LittleEndian.Uint32(c.in))
	typ, tag := c.in[4], binary.LittleEndian.Uint16(c.in[5:])
	limit := maxRequest
	if typ == tWrite {
		limit = max(int(c.msize.Load()), maxRequest)
	}
	switch {
	case size < headerSize:
		return errProtocol(fmt.Sprintf("message of %d bytes", size))
	case size > limit:
		return errProtocol(fmt.Sprintf("message %d of %d bytes", typ, size))
	case (typ == tVersion) != (tag == noTag):
		return errProtocol(fmt.Sprintf("message %d with tag %d", typ, tag))
	case c.msize.Load() == 0 && typ != tVersion:
		return errProtocol(fmt.Sprintf("message %d before the version", typ))
	}
	r.reset(typ, tag)
	if size <= maxRequest {
		if err := c.fill(size); err != nil {
			return err
		}
		copy(r.small[:size], c.in)
		r.d.b = r.small[headerSize:size]
		c.in = c.in[size:]
	} else {
		if err := r.data.get(c, size); err != nil {
			return err
		}
		n := copy(r.data.b, c.in[:min(len(c.in), size)])
		c.in = c.in[n:]
		if _, err := io.ReadFull(c.nc, r.data.b[n:]); err != nil {
			r.data.put(c)
			return incomplete(err)
		}
		r.d.b = r.data.b[headerSize:]
	}
	if err := c.register(r); err != nil {
		r.data.put(c)
		return err
	}
	if typ == tVersion {
		d := r.d
		c.msize.Store(min(int64(max(d.u32(), minMessage)), int64(c.s.config.MaxMessage)))
	}
	return nil
}

// fill reads until at least n bytes, maxRequest at most, are in c.in.
func (c *conn) fill(n int) error {
	if len(c.in) >= n {
		return nil
	}
	have := copy(c.room[:], c.in)
	c.in = c.room[:have]
	m, err := io.ReadAtLeast(c.nc, c.room[have:], n-have)
	c.in = c.room[:have+m]
	if errors.Is(err, io.EOF) && have+m == 0 {
		return io.EOF
	}
	if err != nil {
		return incomplete(err)
	}
	return nil
}

func incomplete(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// register notes that a request is under way. A tVersion, which begins the
// session anew, must be alone; a tFlush is tied to its request.
func (c *conn) register(r *request) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tags[r.tag] != nil {
		return errProtocol(fmt.Sprintf("tag %d is in use", r.tag))
	}
	if r.typ == tVersion && len(c.tags) > 0 {
		return errProtocol("a version among other requests")
	}
	if r.typ == tFlush {
		d := r.d
		old := c.tags[d.u16()]
		if old == nil || !d.done() {
			c.tags[r.tag] = r
			return nil
		}
		if c.flushes++; c.flushes > maxFlushes {
			return errProtocol("too many flushes")
		}
		// The flush needs no worker: it is answered after the other.
		w := &request{c: c, typ: tFlush, tag: r.tag, waits: true}
		c.tags[r.tag] = w
		old.flushers = append(old.flushers, w)
		old.flush()
		r.waits = true
		return nil
	}
	c.tags[r.tag] = r
	return nil
}

// answer writes the answer to r, and to the flushes that wait for it.
func (c *conn) answer(r *request, b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	// The client may use the tag again as soon as it has the answer. A flush
	// that finds no request any more is answered later than this.
	flushes := c.finish(r)
	if err := c.write(b); err != nil {
		return err
	}
	for _, w := range flushes {
		var e encoder
		e.begin(make([]byte, 0, headerSize), tFlush+1, w.tag)
		if err := c.write(e.finish()); err != nil {
			return err
		}
	}
	return nil
}

// finish takes r out of the requests under way and returns the flushes that
// waited for it, and those that waited for them.
func (c *conn) finish(r *request) (flushes []*request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tags, r.tag)
	flushes = r.flushers
	for i := 0; i < len(flushes); i++ {
		w := flushes[i]
		c.flushes--
		delete(c.tags, w.tag)
		flushes = append(flushes, w.flushers...)
	}
	return flushes
}

func (c *conn) write(b []byte) error {
	_, err := c.nc.Write(b)
	return err
}

// A buffer is memory for the data of one request, taken from what all
// connections share. The zero value has none.
type buffer struct {
	b    []byte
	pool *[]byte
}

// smallBuffer is enough for a folder's entries; more is a whole message.
const smallBuffer = 64 << 10

var smallBuffers = sync.Pool{New: func() any { b := make([]byte, smallBuffer); return &b }}
var largeBuffers sync.Pool // of *[]byte that are larger

// get waits until there is memory for n bytes.
func (m *buffer) get(c *conn, n int) error {
	size := smallBuffer
	if n > size {
		size = c.s.config.MaxMessage
	}
	if n > size {
		return unix.EINVAL
	}
	if err := c.s.buffers.Acquire(c.ctx, int64(size)); err != nil {
		return context.Cause(c.ctx)
	}
	if size == smallBuffer {
		m.pool = smallBuffers.Get().(*[]byte)
	} else if p, ok := largeBuffers.Get().(*[]byte); ok && len(*p) == size {
		m.pool = p
	} else {
		b := make([]byte, size)
		m.pool = &b
	}
	m.b = (*m.pool)[:n]
	return nil
}

// put gives the memory back. Without any it does nothing.
func (m *buffer) put(c *conn) {
	if m.pool == nil {
		return
	}
	size := len(*m.pool)
	if size == smallBuffer {
		smallBuffers.Put(m.pool)
	} else {
		largeBuffers.Put(m.pool)
	}
	c.s.buffers.Release(int64(size))
	*m = buffer{}
}
