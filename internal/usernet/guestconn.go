package usernet

import (
	"context"
	"fmt"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A guestConn is a connection with the guest.
type guestConn struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
}

// connect makes a connection to the guest.
func (n *Net) connect(ctx context.Context, from, to tcpip.FullAddress, proto tcpip.NetworkProtocolNumber) (*guestConn, error) {
	var wq waiter.Queue
	ep, err := n.stack.NewEndpoint(tcp.ProtocolNumber, proto, &wq)
	if err != nil {
		return nil, fmt.Errorf("making a socket: %s", err)
	}
	entry, made := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	if err = ep.Bind(from); err == nil {
		err = ep.Connect(to)
	}
	if _, ok := err.(*tcpip.ErrConnectStarted); ok {
		select {
		case <-made:
			err = ep.LastError()
		case <-ctx.Done():
			ep.Close()
			return nil, ctx.Err()
		}
	}
	if err != nil {
		ep.Close()
		return nil, fmt.Errorf("connecting: %s", err)
	}
	return &guestConn{gonet.NewTCPConn(&wq, ep), ep}, nil
}

// reset ends the connection at once, and tells the guest that it did not end
// well.
func (c *guestConn) reset() { c.ep.Abort() }

// quiet tells whether a connection that was closed holds nothing any more: the
// guest has taken what was sent, and has ended its direction.
func (c *guestConn) quiet() bool {
	switch tcp.EndpointState(c.ep.State()) {
	case tcp.StateTimeWait, tcp.StateClose, tcp.StateError:
		return true
	}
	return false
}

// lingerTime is how long a guest may take what is left when a connection has
// ended.
const lingerTime = 60 * time.Second

// leave closes a connection of the guest and waits until nothing of it is held.
// Until then it counts: a guest that takes nothing could have as many as it
// likes else.
func (l *life) leave(c *guestConn) {
	l.drop(c)
	deadline := time.Now().Add(l.linger)
	for wait := time.Millisecond; !c.quiet(); wait = min(2*wait, time.Second) {
		if time.Until(deadline) < 0 {
			c.reset()
			return
		}
		select {
		case <-time.After(wait): // the stack does not tell
		case <-l.ctx.Done():
			return
		}
	}
}
