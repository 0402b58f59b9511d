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
	"time"

	"golang.org/x/sys/unix"
)

// A conn is one client. Whoever calls ready reads a request and serves it
// itself, so that none changes hands. When as many as may be are under way
// nobody reads, and the client waits.
type conn struct {
	s      *Server
	nc     Stream
	strict bool            // the stream does not know when f takes long
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // calls of ready that do something

	msize atomic.Int64 // longest message; 0 before the first tVersion
	wary  atomic.Int32 // so many requests are thought to be slow

	// Of the call whose turn it is to read.
	in   []byte // what was read and is not yet taken
	room [maxRequest]byte
	cur  *request // the message that is read
	have int      // bytes of it that are in its data, if it has any

	wmu sync.Mutex // held while an answer is written; taken before mu

	mu      sync.Mutex // held for moments only; guards the rest
	ended   bool
	reading bool       // a call reads
	more    bool       // there may be more to read than that one sees
	serving int        // requests that are served
	spare   []*request // to be used again
	fids    map[uint32]*fid
	tags    map[uint16]*request
	flushes int // tFlush that wait

	locks lockTable
}

// maxFlushes is how many tFlush may wait for their requests.
const maxFlushes = 128

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, fids: make(map[uint32]*fid), tags: make(map[uint16]*request)}
	var ok bool
	if c.nc, ok = nc.(Stream); !ok {
		c.nc, c.strict = newOrdinary(nc), true
	}
	c.locks.Max = s.config.MaxFids
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	return c
}

// serve returns when the connection has ended and nothing of it is left.
func (c *conn) serve() error {
	c.nc.OnReadable(c.ready)
	<-c.ctx.Done()
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.nc.Close()
	if o, ok := c.nc.(*ordinary); ok {
		<-o.ended
	}
	c.wg.Wait()
	if c.cur != nil {
		c.cur.data.put(c)
	}
	c.reset()
	if err := context.Cause(c.ctx); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// ready reads and serves what the client has sent, until there is nothing more,
// or others do so.
func (c *conn) ready(yield func()) {
	for r := c.next(yield); r != nil; r = c.next(yield) {
		if c.strict || c.wary.Load() > 0 || r.slow() {
			yield()
		}
		began := time.Now()
		err := r.serve()
		c.judge(time.Since(began))
		c.done(r)
		if err != nil {
			c.cancel(err)
			return
		}
	}
}

// Requests that take longer than slowRequest are as slow as the disk that they
// wait for: then as many as wary of the following ones let others receive.
const (
	slowRequest = time.Millisecond
	wary        = 32
)

func (c *conn) judge(took time.Duration) {
	switch {
	case took > slowRequest:
		c.wary.Store(wary)
	case c.wary.Load() > 0:
		c.wary.Add(-1)
	}
}

// next reads the next request, which then is served; nil if there is none now.
func (c *conn) next(yield func()) *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.ended {
			return nil
		}
		if c.reading || c.serving == c.s.config.MaxRequests {
			c.more = true // for the one that reads, or the next that is done
			return nil
		}
		if c.cur == nil {
			c.cur = c.newRequest()
		}
		c.reading, c.more = true, false
		c.wg.Add(1)
		c.mu.Unlock()
		whole, err := c.read(yield)
		if err != nil {
			c.cancel(err) // before another one reads
		}
		c.mu.Lock()
		c.reading = false
		if err == nil && whole {
			r := c.cur
			c.cur = nil
			c.serving++
			if c.more { // somebody was here meanwhile
				c.more = false
				go c.ready(func() {})
			}
			return r
		}
		c.wg.Done()
		if err != nil || !c.more {
			return nil
		}
	}
}

// newRequest returns one that nobody uses. c.mu is held.
func (c *conn) newRequest() *request {
	if n := len(c.spare); n > 0 {
		r := c.spare[n-1]
		c.spare = c.spare[:n-1]
		return r
	}
	return &request{c: c}
}

// done ends a request of next.
func (c *conn) done(r *request) {
	c.mu.Lock()
	c.serving--
	c.spare = append(c.spare, r)
	c.mu.Unlock()
	c.wg.Done()
}

// errProtocol ends a connection: what comes next is anybody's guess.
type errProtocol string

func (e errProtocol) Error() string { return "9p: " + string(e) }

// read goes on reading c.cur, and registers it when it is whole. It is this
// call's turn to read.
func (c *conn) read(yield func()) (whole bool, err error) {
	r := c.cur
	if r.data.pool == nil {
		if ok, err := c.fill(headerSize); !ok {
			return false, err
		}
		size, typ, tag, err := c.header()
		if err != nil {
			return false, err
		}
		if size <= maxRequest {
			if ok, err := c.fill(size); !ok {
				return false, err
			}
			r.reset(typ, tag)
			copy(r.small[:size], c.in)
			r.d.b = r.small[headerSize:size]
			c.in = c.in[size:]
			return true, c.register(r)
		}
		r.reset(typ, tag)
		if err := r.data.get(c, size, yield); err != nil {
			return false, err
		}
		c.have = copy(r.data.b, c.in)
		c.in = nil
	}
	for c.have < len(r.data.b) {
		n, err := c.tryRead(r.data.b[c.have:], true)
		if n == 0 || err != nil {
			return false, err
		}
		c.have += n
	}
	r.d.b = r.data.b[headerSize:]
	return true, c.register(r)
}

// header takes apart the first bytes of a message, and refuses what cannot be
// one.
func (c *conn) header() (size int, typ uint8, tag uint16, err error) {
	size = int(binary.LittleEndian.Uint32(c.in))
	typ, tag = c.in[4], binary.LittleEndian.Uint16(c.in[5:])
	limit := maxRequest
	if typ == tWrite {
		limit = max(int(c.msize.Load()), maxRequest)
	}
	switch {
	case size < headerSize:
		err = errProtocol(fmt.Sprintf("message of %d bytes", size))
	case size > limit:
		err = errProtocol(fmt.Sprintf("message %d of %d bytes", typ, size))
	case (typ == tVersion) != (tag == noTag):
		err = errProtocol(fmt.Sprintf("message %d with tag %d", typ, tag))
	case c.msize.Load() == 0 && typ != tVersion:
		err = errProtocol(fmt.Sprintf("message %d before the version", typ))
	}
	return size, typ, tag, err
}

// fill reads until at least n bytes, maxRequest at most, are in c.in; false
// when they have not come yet.
func (c *conn) fill(n int) (bool, error) {
	if len(c.in) >= n {
		return true, nil
	}
	have := copy(c.room[:], c.in)
	for have < n {
		m, err := c.tryRead(c.room[have:], have > 0)
		if m == 0 || err != nil {
			c.in = c.room[:have]
			return false, err
		}
		have += m
	}
	c.in = c.room[:have]
	return true, nil
}

// tryRead reads what is there; inside of a message, the end is an error of its
// own.
func (c *conn) tryRead(b []byte, inside bool) (int, error) {
	n, err := c.nc.TryRead(b)
	if inside && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
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
	if r.typ == tVersion {
		d := r.d
		c.msize.Store(min(int64(max(d.u32(), minMessage)), int64(c.s.config.MaxMessage)))
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
func (m *buffer) get(c *conn, n int, yield func()) error {
	size := smallBuffer
	if n > size {
		size = c.s.config.MaxMessage
	}
	if n > size {
		return unix.EINVAL
	}
	if !c.s.buffers.TryAcquire(int64(size)) {
		yield()
		if err := c.s.buffers.Acquire(c.ctx, int64(size)); err != nil {
			return context.Cause(c.ctx)
		}
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
