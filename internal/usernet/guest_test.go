package usernet

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

var (
	guest4, gateway4 = netip.MustParseAddr("10.213.0.2"), netip.MustParseAddr("10.213.0.1")
	guest6, gateway6 = netip.MustParseAddr("fd62:7972:65::2"), netip.MustParseAddr("fd62:7972:65::1")
)

// A guest is a stack of its own at the other end of a network.
type guest struct {
	t     *testing.T
	net   *Net
	stack *stack.Stack
	conn  net.Conn
	cfg   Config
}

func start(t *testing.T, cfg Config) *guest {
	t.Helper()
	if !cfg.Guest.IsValid() {
		cfg.Guest, cfg.Gateway = guest4, gateway4
	}
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	ours, theirs := net.Pipe()
	n, err := New(ours, cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, net: n, conn: theirs, cfg: cfg}
	t.Cleanup(func() { n.Close() })
	g.boot()
	return g
}

func (g *guest) boot() {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	g.stack = s
	link := channel.New(512, MTU+14, "\x02\x00\x00\x00\x00\x01")
	if err := s.CreateNIC(1, ethernet.New(link)); err != nil {
		g.t.Fatal(err)
	}
	var routes []tcpip.Route
	for _, ends := range [][2]netip.Addr{{g.cfg.Guest, g.cfg.Gateway}, {g.cfg.Guest2, g.cfg.Gateway2}} {
		if !ends[0].IsValid() {
			continue
		}
		if err := s.AddProtocolAddress(1, tcpip.ProtocolAddress{
			Protocol: proto(ends[0]), AddressWithPrefix: address(ends[0]).WithPrefix(),
		}, stack.AddressProperties{}); err != nil {
			g.t.Fatal(err)
		}
		gw := address(ends[1])
		all := header.IPv4EmptySubnet
		if ends[1].Is6() {
			all = header.IPv6EmptySubnet
		}
		routes = append(routes, tcpip.Route{Destination: gw.WithPrefix().Subnet(), NIC: 1}, tcpip.Route{Destination: all, Gateway: gw, NIC: 1})
	}
	s.SetRouteTable(routes)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			pkt := link.ReadContext(ctx)
			if pkt == nil {
				return
			}
			g.frame(pkt.ToView().AsSlice())
			pkt.DecRef()
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			f, err := readFrame(g.conn)
			if err != nil {
				return
			}
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(f)})
			link.InjectInbound(0, pkt)
			pkt.DecRef()
		}
	}()
	g.t.Cleanup(func() {
		cancel()
		g.conn.Close()
		<-done
		<-done
		s.Destroy()
	})
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	f := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(r, f)
	return f, err
}

// frame sends a frame; one write, for others may send too.
func (g *guest) frame(b []byte) {
	g.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
}

func (g *guest) proto() tcpip.NetworkProtocolNumber { return proto(g.cfg.Guest) }

func proto(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is6() {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

func (g *guest) dialTCP(to netip.AddrPort) (*gonet.TCPConn, error) {
	return g.dialWithin(20*time.Second, to)
}

func (g *guest) dialWithin(d time.Duration, to netip.AddrPort) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), d)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.stack, tcpip.FullAddress{NIC: 1, Addr: address(to.Addr()), Port: to.Port()}, proto(to.Addr()))
}

func (g *guest) dialUDP(to netip.AddrPort) *gonet.UDPConn {
	g.t.Helper()
	c, err := gonet.DialUDP(g.stack, nil, &tcpip.FullAddress{NIC: 1, Addr: address(to.Addr()), Port: to.Port()}, proto(to.Addr()))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func (g *guest) listenTCP(port uint16) net.Listener {
	g.t.Helper()
	l, err := gonet.ListenTCP(g.stack, tcpip.FullAddress{NIC: 1, Port: port}, g.proto())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { l.Close() })
	return l
}

// echoTCP answers every connection with what it sends, to its end.
func echoTCP(t *testing.T, l net.Listener) netip.AddrPort {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.(interface{ CloseWrite() error }).CloseWrite()
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	a, _ := netip.ParseAddrPort(l.Addr().String())
	return a
}

// echoUDP answers every datagram with itself.
func echoUDP(t *testing.T, c net.PacketConn) netip.AddrPort {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			k, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(buf[:k], from)
		}
	}()
	a, _ := netip.ParseAddrPort(c.LocalAddr().String())
	return a
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func listenPacket(t *testing.T, addr string) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// freePort returns a port of the loopback that is free at the moment.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}
