package usernet

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Protocols of a [Port].
const (
	TCP = "tcp"
	UDP = "udp"
)

// A Port is a port of the guest that has a port of the host.
type Port struct {
	Protocol string         // [TCP] or [UDP]
	Host     netip.AddrPort // where the host listens
	Guest    uint16
}

func (p Port) String() string { return fmt.Sprintf("%s:%d/%s", p.Host, p.Guest, p.Protocol) }

// Check fails if p is malformed or the host's port is in use.
func (p Port) Check() error {
	var l closer
	var err error
	switch {
	case !p.Host.IsValid() || p.Host.Port() == 0 || p.Guest == 0:
		return fmt.Errorf("publishing port %s: a port or address is missing", p)
	case p.Protocol == TCP:
		l, err = p.listenTCP()
	case p.Protocol == UDP:
		l, err = p.listenUDP()
	default:
		return fmt.Errorf("publishing port %s: protocol %q is neither tcp nor udp", p, p.Protocol)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

func (p Port) listenTCP() (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", p.Host.String())
	if err != nil {
		return nil, fmt.Errorf("publishing port %s: %w", p, err)
	}
	return l, nil
}

func (p Port) listenUDP() (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(p.Host))
	if err != nil {
		return nil, fmt.Errorf("publishing port %s: %w", p, err)
	}
	return c, nil
}

// ports publishes ports of a guest.
type ports struct {
	*life
	log *slog.Logger
	// dial connects to the guest; for TCP it returns a halfCloser.
	dial            func(ctx context.Context, protocol string, port uint16) (net.Conn, error)
	conns, sessions chan struct{} // one element for each that there is
}

func newPorts(l *life, log *slog.Logger, dial func(context.Context, string, uint16) (net.Conn, error)) ports {
	return ports{l, log, dial, make(chan struct{}, maxConns), make(chan struct{}, maxSessions)}
}

// publish opens a port of the host.
func (n ports) publish(p Port) error {
	switch p.Protocol {
	case TCP:
		l, err := p.listenTCP()
		if err != nil {
			return err
		}
		if n.keep(l) {
			n.goes(func() { n.acceptPublished(l, p) })
		}
	case UDP:
		c, err := p.listenUDP()
		if err != nil {
			return err
		}
		if n.keep(c) {
			n.goes(func() { n.receivePublished(c, p) })
		}
	default:
		return fmt.Errorf("publishing port %s: protocol %q is neither tcp nor udp", p, p.Protocol)
	}
	return nil
}

func (n ports) acceptPublished(l net.Listener, p Port) {
	defer n.drop(l)
	for {
		c, err := l.Accept()
		if err != nil {
			if n.ctx.Err() != nil {
				return
			}
			n.log.Warn("published port took no connection", "port", p.String(), "err", err)
			select { // out of descriptors, most likely
			case <-time.After(100 * time.Millisecond):
				continue
			case <-n.ctx.Done():
				return
			}
		}
		host := c.(*net.TCPConn)
		if !take(n.conns) {
			reset(host)
			continue
		}
		if !n.goes(func() { defer give(n.conns); n.connectPublished(host, p) }) {
			host.Close()
		}
	}
}

// connectPublished connects a connection of the host to the guest. One that
// the guest refuses is reset.
func (n ports) connectPublished(host *net.TCPConn, p Port) {
	if !n.keep(host) {
		return
	}
	defer n.drop(host)
	ctx, cancel := context.WithTimeout(n.ctx, dialTime)
	c, err := n.dial(ctx, TCP, p.Guest)
	cancel()
	if err != nil {
		reset(host)
		return
	}
	guest := c.(halfCloser)
	if !n.keep(guest) {
		return
	}
	defer n.drop(guest)
	n.relay(guest, host)
}

func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// receivePublished gives each sender of datagrams to a port of the host a
// session of its own with the guest.
func (n ports) receivePublished(c *net.UDPConn, p Port) {
	defer n.drop(c)
	senders := newSenders()
	buf := make([]byte, maxDatagram)
	for {
		k, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			if n.ctx.Err() != nil {
				return
			}
			continue // what an earlier answer met
		}
		guest := senders.get(from)
		if guest == nil {
			if guest = n.newSender(c, from, p, senders); guest == nil {
				continue
			}
		}
		guest.SetReadDeadline(time.Now().Add(idleTime))
		guest.Write(buf[:k])
	}
}

func (n ports) newSender(c *net.UDPConn, from netip.AddrPort, p Port, senders *senders) net.Conn {
	if !take(n.sessions) {
		return nil
	}
	guest, err := n.dial(n.ctx, UDP, p.Guest)
	if err != nil || !n.keep(guest) {
		give(n.sessions)
		return nil
	}
	senders.put(from, guest)
	ok := n.goes(func() {
		defer give(n.sessions)
		defer n.drop(guest)
		defer senders.remove(from)
		buf := make([]byte, maxDatagram)
		for {
			k, err := guest.Read(buf)
			if err != nil {
				return
			}
			guest.SetReadDeadline(time.Now().Add(idleTime))
			c.WriteToUDPAddrPort(buf[:k], from)
		}
	})
	if !ok {
		give(n.sessions)
		return nil
	}
	return guest
}
