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

// Check fails if a port is malformed, or the host cannot have all of them: one
// is in use, or two are the same.
func Check(ports ...Port) error {
	var open []closer
	defer func() {
		for _, l := range open {
			l.Close()
		}
	}()
	for _, p := range ports {
		if !p.Host.IsValid() || p.Host.Port() == 0 || p.Guest == 0 {
			return fmt.Errorf("publishing port %s: a port or address is missing", p)
		}
		l, err := p.listen()
		if err != nil {
			return err
		}
		open = append(open, l)
	}
	return nil
}

// listen opens the host's port.
func (p Port) listen() (closer, error) {
	switch p.Protocol {
	case TCP:
		return p.listenTCP()
	case UDP:
		return p.listenUDP()
	}
	return nil, fmt.Errorf("publishing port %s: protocol %q is neither tcp nor udp", p, p.Protocol)
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
	c, err := p.listen()
	if err != nil {
		return err
	}
	if n.keep(c) {
		n.goes(func() {
			switch c := c.(type) {
			case net.Listener:
				n.acceptPublished(c, p)
			case *net.UDPConn:
				n.receivePublished(c, p)
			}
		})
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
	if c, ok := guest.(*guestConn); ok {
		defer n.leave(c)
	} else {
		defer n.drop(guest)
	}
	n.relay(guest, host)
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
