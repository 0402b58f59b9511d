//go:build linux

package vhostuser

import (
	"fmt"
	"net"
	"sync"
	"syscall"

	"github.com/byrevm/byre/internal/vsock"
)

// maxBacklog is how many connections of a port may wait for Accept; the guest's
// further ones are refused.
const maxBacklog = 128

// A listener accepts what the guest opens to one host port.
type listener struct {
	d     *Device
	port  uint32
	queue chan *Conn // sent to under Device.mu, while the listener is in the table
	over  chan struct{}
	once  sync.Once
	err   error // why it is over; set before over is closed
}

// Listen returns a listener for connections that the guest opens to a host
// port, before or after the guest is up; it outlives the guest's driver. A port
// in use is syscall.EADDRINUSE. The guest's connect succeeds as soon as its
// request is taken; up to 128 connections may wait for Accept.
//
// When the device ends, Accept returns the connections that were waiting, with
// whatever the guest sent on them, and then the error.
func (d *Device) Listen(port uint32) (net.Listener, error) {
	l := &listener{d: d, port: port, queue: make(chan *Conn, maxBacklog), over: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	switch ended := d.b.Ended(); {
	case ended != nil:
		err = gone{ended}
	case port == vsock.PortAny:
		err = syscall.EADDRNOTAVAIL
	case d.listeners[port] != nil:
		err = syscall.EADDRINUSE
	}
	if err != nil {
		return nil, l.opError("listen", err)
	}
	d.listeners[port] = l
	return l, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.over:
	}
	select {
	case c := <-l.queue:
		return c, nil
	default:
		return nil, l.opError("accept", l.err)
	}
}

// Close frees the port and resets what was not accepted. A second call does
// nothing.
func (l *listener) Close() error {
	l.d.mu.Lock()
	if l.d.listeners[l.port] == l {
		delete(l.d.listeners, l.port)
	}
	l.d.mu.Unlock()
	l.finish(net.ErrClosed)
	for {
		select {
		case c := <-l.queue:
			l.d.abort(c, net.ErrClosed)
		default:
			return nil
		}
	}
}

// Addr implements net.Listener; it is a vsock.Addr.
func (l *listener) Addr() net.Addr { return vsock.Addr{CID: vsock.CIDHost, Port: l.port} }

// finish wakes Accept; l is no longer in the table.
func (l *listener) finish(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.over)
	})
}

func (l *listener) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "vsock", Addr: l.Addr(), Err: err}
}

// incoming makes the connection that the guest asks for, or nil to refuse it.
func (d *Device) incoming(k key, h *header) *Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.listeners[k.local]
	if l == nil || !d.up || len(d.conns) >= maxConns || k.remote == vsock.PortAny || h.fwdCnt != 0 {
		return nil
	}
	c := newConn(d, k)
	c.peerAlloc = min(h.bufAlloc, maxCredit)
	c.pending = 1 << opResponse
	close(c.answer)
	select {
	case l.queue <- c:
	default:
		return nil
	}
	d.conns[k] = c
	return c
}

// errTooMany is what Dial returns when the table is full.
var errTooMany = fmt.Errorf("more than %d connections: %w", maxConns, syscall.ENOBUFS)
