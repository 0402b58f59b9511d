package p9

import (
	"net"
	"sync"
)

// A Stream is a connection that is served on the goroutine of its transport
// that receives, so that no other one must be woken for a short request. A
// [net.Conn] that is none works too.
type Stream interface {
	net.Conn

	// TryRead is Read that does not wait: it returns 0 and no error when there
	// is nothing to read now.
	TryRead(p []byte) (int, error)

	// OnReadable makes the transport call f at the beginning, when there is
	// more to read, and when the connection has ended, from any goroutine and
	// by several at a time. Before f does what may take long it calls yield:
	// something else receives meanwhile, and calls f at once, as there may be
	// more to read. When f takes long without, the transport does so itself.
	OnReadable(f func(yield func()))
}

// An ordinary is a Stream made of any connection. It receives no more before
// what it has was taken.
type ordinary struct {
	net.Conn
	ended chan struct{} // closed when nothing is received any more

	mu     sync.Mutex // guards the rest
	taken  sync.Cond  // b has become empty, or the connection closed
	b      []byte
	err    error // of the last Read
	closed bool
}

func newOrdinary(nc net.Conn) *ordinary {
	o := &ordinary{Conn: nc, ended: make(chan struct{})}
	o.taken.L = &o.mu
	return o
}

// ordinaryRead is how much is received at a time.
const ordinaryRead = 64 << 10

func (o *ordinary) OnReadable(f func(yield func())) {
	var yield func()
	yield = func() { go f(yield) }
	go func() {
		defer close(o.ended)
		room := make([]byte, ordinaryRead)
		for err := error(nil); err == nil; {
			var n int
			n, err = o.Conn.Read(room)
			o.mu.Lock()
			o.b, o.err = room[:n], err
			o.mu.Unlock()
			yield()
			o.mu.Lock()
			for len(o.b) > 0 && !o.closed {
				o.taken.Wait()
			}
			o.mu.Unlock()
		}
	}()
}

func (o *ordinary) TryRead(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.b) == 0 {
		return 0, o.err
	}
	n := copy(p, o.b)
	if o.b = o.b[n:]; len(o.b) == 0 {
		o.taken.Signal()
	}
	return n, nil
}

func (o *ordinary) Close() error {
	o.mu.Lock()
	o.closed = true
	o.taken.Signal()
	o.mu.Unlock()
	return o.Conn.Close()
}
