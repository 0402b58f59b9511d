package vsock

import (
	"context"
	"fmt"
	"net"

	mdl "github.com/mdlayher/vsock"
)

// A Conn is a connected AF_VSOCK stream socket. It is a net.Conn with
// CloseRead, CloseWrite and SyscallConn; its addresses are of type [Addr].
type Conn struct {
	*mdl.Conn
	local, remote Addr
}

// LocalAddr returns this end's [Addr].
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the other end's [Addr].
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Dial connects to a port of a CID, normally [CIDHost]. ctx ends the attempt
// only. The kernel gives up by itself after two seconds without an answer
// (syscall.ETIMEDOUT); a refusal is syscall.ECONNRESET. The caller owns the
// connection.
func Dial(ctx context.Context, cid, port uint32) (*Conn, error) {
	c, err := mdl.DialContext(ctx, cid, port, nil)
	if err != nil {
		return nil, fmt.Errorf("dialing vsock %v: %w", Addr{cid, port}, err)
	}
	return wrap(c), nil
}

// Listen listens on a port of every CID that this machine has; [PortAny] picks
// a free one. The caller owns the listener, whose Accept returns a *[Conn].
func Listen(port uint32) (*Listener, error) {
	if port == PortAny {
		port = 0 // the library's word for it
	}
	l, err := mdl.ListenContextID(CIDAny, port, nil)
	if err != nil {
		return nil, fmt.Errorf("listening on vsock port %d: %w", port, err)
	}
	return &Listener{l}, nil
}

// A Listener is a listening AF_VSOCK stream socket.
type Listener struct {
	l *mdl.Listener
}

// Accept waits for the next connection and returns it, a *[Conn] that the
// caller owns. After Close it returns net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.l.Accept()
	if err != nil {
		return nil, err
	}
	return wrap(c.(*mdl.Conn)), nil
}

// Close ends the listener and wakes Accept; accepted connections stay. A second
// call returns an error.
func (l *Listener) Close() error { return l.l.Close() }

// Addr returns the listener's [Addr], with [CIDAny].
func (l *Listener) Addr() net.Addr { return convert(l.l.Addr()) }

func wrap(c *mdl.Conn) *Conn {
	return &Conn{c, convert(c.LocalAddr()), convert(c.RemoteAddr())}
}

func convert(a net.Addr) Addr {
	m := a.(*mdl.Addr)
	return Addr{m.ContextID, m.Port}
}
