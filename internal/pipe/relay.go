package pipe

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// MaxConns is how many connections a relay carries at a time; others wait
	// to be accepted.
	MaxConns = 256

	maxDials    = 32               // at a time: what listens has a short queue
	dialTimeout = 30 * time.Second // of one connection
	acceptPause = 50 * time.Millisecond
	bufferSize  = 32 << 10 // of one direction
)

// A Conn is a connection each half of which can be ended.
type Conn interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
}

// A Config says what a [Relay] connects.
type Config struct {
	// Listener is where connections come from; they are Conns. The relay owns
	// it.
	Listener net.Listener

	// Dial opens the connection that one which was accepted is joined to.
	Dial func(ctx context.Context) (Conn, error)

	// Shared, if not nil, bounds the connections of several relays together:
	// each holds a place in it.
	Shared chan struct{}

	Logger *slog.Logger // nil is slog.Default()
}

// A Relay joins each connection that it accepts to one that it opens. Data
// and the end of each half go through, and no more is held than one buffer
// for each direction.
type Relay struct {
	c     Config
	ctx   context.Context // ends when Close begins
	stop  context.CancelFunc
	slots chan struct{}
	dials chan struct{}
	wg    sync.WaitGroup

	mu    sync.Mutex
	conns map[Conn]struct{} // nil once they are being closed
}

// Start runs a relay until [Relay.Close], or until its listener ends.
func Start(c Config) *Relay {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	r := &Relay{
		c:     c,
		slots: make(chan struct{}, MaxConns),
		dials: make(chan struct{}, maxDials),
		conns: make(map[Conn]struct{}),
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.wg.Go(r.accept)
	return r
}

// Close ends the listener and every connection, and returns when all have
// ended. A second call waits for the first.
func (r *Relay) Close() {
	r.stop()
	r.c.Listener.Close()
	r.mu.Lock()
	conns := r.conns
	r.conns = nil
	r.mu.Unlock()
	for c := range conns {
		c.Close()
	}
	r.wg.Wait()
}

func (r *Relay) accept() {
	defer r.c.Listener.Close()
	for {
		c, err := r.c.Listener.Accept()
		switch {
		case err == nil:
			if !r.admit(c) {
				return
			}
		case r.ctx.Err() != nil || errors.Is(err, net.ErrClosed) || !temporary(err):
			return
		default:
			// For want of descriptors; those who wait stay in the queue.
			r.c.Logger.Warn("connection to a pipe not accepted", "addr", r.c.Listener.Addr(), "err", err)
			select {
			case <-time.After(acceptPause):
			case <-r.ctx.Done():
			}
		}
	}
}

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// admit waits for a place for c, and carries it.
func (r *Relay) admit(c net.Conn) bool {
	near, ok := c.(Conn)
	if !ok || !r.hold(near) {
		c.Close()
		return ok
	}
	if !r.take(r.slots) {
		r.drop(near)
		return false
	}
	if !r.take(r.c.Shared) {
		r.drop(near)
		return false
	}
	r.wg.Go(func() {
		defer r.give(r.slots)
		defer r.give(r.c.Shared)
		defer r.drop(near)
		r.carry(near)
	})
	return true
}

// take takes a place, if there are places, and reports false when the relay
// ends first.
func (r *Relay) take(places chan struct{}) bool {
	if places == nil {
		return true
	}
	select {
	case places <- struct{}{}:
		return true
	case <-r.ctx.Done():
		return false
	}
}

func (r *Relay) give(places chan struct{}) {
	if places != nil {
		<-places
	}
}

// hold has Close close c; it reports false if that is under way.
func (r *Relay) hold(c Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *Relay) drop(c Conn) {
	r.mu.Lock()
	delete(r.conns, c)
	r.mu.Unlock()
	c.Close()
}

// carry joins near to a new connection until both directions have ended.
func (r *Relay) carry(near Conn) {
	far, err := r.dial()
	if err != nil {
		if r.ctx.Err() == nil {
			r.c.Logger.Warn("pipe not connected", "addr", r.c.Listener.Addr(), "err", err)
		}
		return
	}
	if !r.hold(far) {
		far.Close()
		return
	}
	defer r.drop(far)
	done := make(chan struct{})
	go func() {
		defer close(done)
		transfer(near, far)
	}()
	transfer(far, near)
	<-done
}

func (r *Relay) dial() (Conn, error) {
	if !r.take(r.dials) {
		return nil, r.ctx.Err()
	}
	defer r.give(r.dials)
	ctx, cancel := context.WithTimeout(r.ctx, dialTimeout)
	defer cancel()
	return r.c.Dial(ctx)
}

// transfer carries what comes from src to dst, and its end. Who does not want
// any more from src ends that half only: the other may still have something
// to say.
func transfer(dst, src Conn) {
	b := make([]byte, bufferSize)
	for {
		n, err := src.Read(b)
		if n > 0 {
			if _, err := dst.Write(b[:n]); err != nil {
				src.CloseRead()
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			dst.CloseWrite()
			return
		case err != nil: // a reset: of both halves
			src.Close()
			dst.Close()
			return
		}
	}
}
