package usernet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
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

// publish opens a port of the host.
func (n *Net) publish(p Port) error {
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

func (n *Net) guestAddress(port uint16) (tcpip.FullAddress, tcpip.NetworkProtocolNumber) {
	proto := ipv4.ProtocolNumber
	if n.cfg.Guest.Is6() {
		proto = ipv6.ProtocolNumber
	}
	return tcpip.FullAddress{NIC: nicID, Addr: address(n.cfg.Guest), Port: port}, proto
}

// gatewayAddress makes what comes from the host come from the gateway.
func (n *Net) gatewayAddress() tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: n.gateway}
}

func (n *Net) acceptPublished(l net.Listener, p Port) {
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
func (n *Net) connectPublished(host *net.TCPConn, p Port) {
	if !n.keep(host) {
		return
	}
	defer n.drop(host)
	ctx, cancel := context.WithTimeout(n.ctx, dialTime)
	to, proto := n.guestAddress(p.Guest)
	guest, err := gonet.DialTCPWithBind(ctx, n.stack, n.gatewayAddress(), to, proto)
	cancel()
	if err != nil {
		reset(host)
		return
	}
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
func (n *Net) receivePublished(c *net.UDPConn, p Port) {
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

func (n *Net) newSender(c *net.UDPConn, from netip.AddrPort, p Port, senders *senders) net.Conn {
	if !take(n.sessions) {
		return nil
	}
	to, proto := n.guestAddress(p.Guest)
	local := n.gatewayAddress()
	guest, err := gonet.DialUDP(n.stack, &local, &to, proto)
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
