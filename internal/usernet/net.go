package usernet

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// MTU is the largest packet that a network carries. Both ends of every
// connection are in this machine, so it is as large as a packet can be.
const MTU = 65520

// What a guest can make this process hold.
const (
	maxConns      = 1024      // TCP connections, of either direction
	maxSessions   = 1024      // pairs of datagram sockets, of either direction
	maxDials      = 64        // connections that are being made
	maxQuestions  = 64        // names that are being looked up
	maxBuffer     = 512 << 10 // of a connection, in each direction
	queuedPackets = 512       // on the way to the guest
)

const (
	dialTime = 20 * time.Second
	idleTime = 90 * time.Second // of a datagram session
)

const nicID tcpip.NICID = 1

// A Config describes a network. Guest and Gateway are needed; published ports
// are Guest's.
type Config struct {
	// Guest and Gateway are the addresses of the two ends, of one family.
	Guest, Gateway netip.Addr
	// Guest2 and Gateway2 are those of the other family, if it has both.
	Guest2, Gateway2 netip.Addr
	// Publish are the ports of the guest that the host has, too.
	Publish []Port
	// HostLoopback lets the guest reach the host's loopback at the gateway's
	// address.
	HostLoopback bool
	// Names are answered without asking anybody.
	Names map[string]netip.Addr
	// Resolvers returns the servers that other names are asked of; nil means
	// those of the host.
	Resolvers func() []netip.AddrPort
	// Logger is nil for slog.Default().
	Logger *slog.Logger
}

func (c *Config) check() error {
	second := c.Guest2.IsValid() || c.Gateway2.IsValid()
	if !fit(c.Guest, c.Gateway) || second && !fit(c.Guest2, c.Gateway2) {
		return fmt.Errorf("guest %v and gateway %v, or %v and %v, are not two addresses of one family", c.Guest, c.Gateway, c.Guest2, c.Gateway2)
	}
	if second && c.Guest.Is4() == c.Guest2.Is4() {
		return fmt.Errorf("guest %v and %v are of one family", c.Guest, c.Guest2)
	}
	return nil
}

// fit tells whether two addresses can be those of the ends.
func fit(a, b netip.Addr) bool { return a.IsValid() && b.IsValid() && a.Is4() == b.Is4() && a != b }

func (c *Config) gateways() []netip.Addr {
	if c.Gateway2.IsValid() {
		return []netip.Addr{c.Gateway, c.Gateway2}
	}
	return []netip.Addr{c.Gateway}
}

// A Net is a network with one guest. Its methods are safe for concurrent use.
type Net struct {
	cfg   Config
	log   *slog.Logger
	conn  net.Conn
	link  *channel.Endpoint
	stack *stack.Stack
	done  chan struct{} // closed once the guest's side has ended

	*life
	ports     ports
	questions chan struct{} // one element for each that there is
}

// New starts a network. Frames of the guest come and go on conn, each after
// its length in four bytes, big-endian. The network owns conn, also if New
// fails: then nothing is left of it.
func New(conn net.Conn, cfg Config) (_ *Net, err error) {
	if err := cfg.check(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("usernet: %w", err)
	}
	n := &Net{
		cfg: cfg, log: cfg.Logger, conn: conn, done: make(chan struct{}),
		life: newLife(), questions: make(chan struct{}, maxQuestions),
	}
	if n.log == nil {
		n.log = slog.Default()
	}
	n.ports = newPorts(n.life, n.log, n.dial)
	if n.cfg.Resolvers == nil {
		n.cfg.Resolvers = hostResolvers
	}
	if err := n.makeStack(); err != nil {
		n.cancel()
		conn.Close()
		return nil, fmt.Errorf("usernet: %w", err)
	}
	n.goes(n.send)
	n.goes(n.receive)
	for _, p := range cfg.Publish {
		if err := n.ports.publish(p); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// gatewayMAC is the link address of every gateway: each is alone with its
// guest. It is locally administered.
var gatewayMAC = tcpip.LinkAddress("\x5a\x94\xef\xe4\x0c\xdd")

func (n *Net) makeStack() error {
	n.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	n.link = channel.New(queuedPackets, MTU+header.EthernetMinimumSize, gatewayMAC)
	fail := func(what string, err tcpip.Error) error {
		if err == nil {
			return nil
		}
		n.stack.Destroy()
		return fmt.Errorf("%s: %s", what, err)
	}
	// What the guest sends to any address is for this stack, and it answers
	// as that address.
	if err := n.stack.CreateNIC(nicID, ethernet.New(n.link)); err != nil {
		return fail("making the NIC", err)
	}
	n.stack.SetPromiscuousMode(nicID, true)
	n.stack.SetSpoofing(nicID, true)
	for _, gateway := range n.cfg.gateways() {
		proto := ipv4.ProtocolNumber
		if gateway.Is6() {
			proto = ipv6.ProtocolNumber
		}
		if err := n.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol: proto, AddressWithPrefix: address(gateway).WithPrefix(),
		}, stack.AddressProperties{}); err != nil {
			return fail("setting the address", err)
		}
	}
	n.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	sack := tcpip.TCPSACKEnabled(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: maxBuffer, Max: maxBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: maxBuffer, Max: maxBuffer}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &receive, &send} {
		if err := n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fail("setting up TCP", err)
		}
	}
	n.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(n.stack, maxBuffer, maxDials, n.forwardTCP).HandlePacket)
	n.stack.SetTransportProtocolHandler(udp.ProtocolNumber, n.handleUDP)
	return nil
}

// Done is closed when the guest's side has ended, or Close was called.
func (n *Net) Done() <-chan struct{} { return n.done }

// Close ends the network, its connections and its published ports, and
// returns when nothing of it runs. A second call does nothing.
func (n *Net) Close() error {
	first := n.end(func() {
		n.conn.Close()
		n.stack.Close()
	})
	if first {
		n.stack.Destroy()
		n.link.Close()
	}
	return nil
}

// take takes one of a bounded number, without waiting.
func take(sem chan struct{}) bool {
	select {
	case sem <- struct{}{}:
		return true
	default:
		return false
	}
}

func give(sem chan struct{}) { <-sem }

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return netip.AddrPortFrom(ip.Unmap(), port)
}
