//go:build linux

package vhostuser

import (
	"context"
	"net"
	"syscall"

	"github.com/byrevm/byre/internal/vsock"
)

// firstPort is where the host's ends of dialed connections begin.
const firstPort = 0xc0000000

// Dial connects to a port of the guest. It waits until the guest's driver is up
// and answers, or ctx or the device ends. A port where nobody listens is
// syscall.ECONNREFUSED, a driver that goes meanwhile syscall.ECONNRESET. The
// driver is up long before a program in the guest listens, so a caller that
// waits for a program tries again. The caller owns the connection, a *[Conn].
func (d *Device) Dial(ctx context.Context, port uint32) (net.Conn, error) {
	c, err := d.dial(ctx, port)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "vsock", Addr: vsock.Addr{CID: uint32(d.cid), Port: port}, Err: err}
	}
	return c, nil
}

func (d *Device) dial(ctx context.Context, port uint32) (*Conn, error) {
	c, err := d.outgoing(ctx, port)
	if err != nil {
		return nil, err
	}
	d.rx.tell(c)
	select {
	case <-c.answer:
	case <-ctx.Done():
		if d.abort(c, ctx.Err()) {
			return nil, ctx.Err()
		}
		<-c.answer // the guest's was first
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused { // one that the guest accepted and closed at once can still be read
		return nil, c.err
	}
	return c, nil
}

// outgoing puts a new connection into the table once the guest is up.
func (d *Device) outgoing(ctx context.Context, port uint32) (*Conn, error) {
	for {
		d.mu.Lock()
		up, ready, ended := d.up, d.ready, d.b.Ended()
		if ended == nil && up {
			defer d.mu.Unlock()
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			return d.addOutgoing(port)
		}
		d.mu.Unlock()
		if ended != nil {
			return nil, gone{ended}
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// addOutgoing takes d.mu held.
func (d *Device) addOutgoing(port uint32) (*Conn, error) {
	if len(d.conns) >= maxConns {
		return nil, errTooMany
	}
	if port == vsock.PortAny {
		return nil, syscall.EADDRNOTAVAIL
	}
	k := key{local: d.nextPort, remote: port}
	for d.conns[k] != nil {
		k.local = nextPort(k.local)
	}
	d.nextPort = nextPort(k.local)
	c := newConn(d, k)
	c.dialing = true
	c.pending = 1 << opRequest
	d.conns[k] = c
	return c, nil
}

func nextPort(p uint32) uint32 {
	if p++; p == vsock.PortAny {
		return firstPort
	}
	return p
}
