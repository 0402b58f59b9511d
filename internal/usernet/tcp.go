package usernet

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// forwardTCP connects a guest that wants a connection. The guest's connection
// is accepted once the other one is there; else it is refused.
func (n *Net) forwardTCP(r *tcp.ForwarderRequest) {
	if !n.goes(func() { n.connectTCP(r) }) {
		r.Complete(true)
	}
}

func (n *Net) connectTCP(r *tcp.ForwarderRequest) {
	to := addrPort(r.ID().LocalAddress, r.ID().LocalPort)
	if !take(n.ports.conns) {
		n.log.Debug("connection refused, the guest has too many", "to", to)
		r.Complete(true)
		return
	}
	defer give(n.ports.conns)
	if n.names(to) {
		if guest := n.acceptTCP(r); guest != nil {
			defer n.leave(guest)
			n.answerTCP(guest)
		}
		return
	}
	to, ok := n.destination(to)
	if !ok {
		r.Complete(true)
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, dialTime)
	host, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	cancel()
	if err != nil {
		n.log.Debug("connection of the guest was not made", "to", to, "err", err)
		r.Complete(true)
		return
	}
	if !n.keep(host) {
		r.Complete(true)
		return
	}
	defer n.drop(host)
	guest := n.acceptTCP(r)
	if guest == nil {
		return
	}
	defer n.leave(guest)
	n.relay(guest, host.(*net.TCPConn))
}

// acceptTCP completes a request with a connection, nil if that went away.
func (n *Net) acceptTCP(r *tcp.ForwarderRequest) *guestConn {
	var wq waiter.Queue
	ep, err := r.CreateEndpoint(&wq)
	r.Complete(err != nil)
	if err != nil {
		return nil
	}
	// A guest that has gone without a word does not hold the connection.
	ep.SocketOptions().SetKeepAlive(true)
	c := &guestConn{gonet.NewTCPConn(&wq, ep), ep}
	if !n.keep(c) {
		return nil
	}
	return c
}

// A halfCloser is a connection whose directions end by themselves.
type halfCloser interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
}

// relay copies both ways until both have ended. The end of one direction is
// passed on; the other stays.
func (l *life) relay(a, b halfCloser) {
	there := make(chan struct{})
	if !l.goes(func() { defer close(there); pipe(a, b) }) {
		return
	}
	pipe(b, a)
	<-there
}

// pipe copies from src to dst. If src breaks off, so does dst: its end is not
// to be taken for that of what src had to say. If dst takes no more, src is
// told, and may still hear what dst has said.
func pipe(dst, src halfCloser) {
	switch _, err := io.Copy(dst, src); {
	case err == nil:
		dst.CloseWrite()
	case ofWriting(err):
		src.CloseRead()
	default:
		reset(dst)
		reset(src)
	}
}

// ofWriting tells which side an error of copying is of.
func ofWriting(err error) bool {
	if errors.Is(err, syscall.EPIPE) {
		return true
	}
	for op := (*net.OpError)(nil); errors.As(err, &op); err = op.Err {
		if op.Op == "write" {
			return true
		}
	}
	return false
}

// reset ends a connection at once, without its end.
func reset(c halfCloser) {
	switch c := c.(type) {
	case *net.TCPConn:
		c.SetLinger(0)
		c.Close()
	case *guestConn:
		c.reset()
	}
}
