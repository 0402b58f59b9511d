package usernet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// families runs a test for IPv4 and IPv6.
func families(t *testing.T, test func(t *testing.T, cfg Config, loopback string)) {
	t.Run("IPv4", func(t *testing.T) { test(t, Config{Guest: guest4, Gateway: gateway4}, "127.0.0.1:0") })
	t.Run("IPv6", func(t *testing.T) { test(t, Config{Guest: guest6, Gateway: gateway6}, "[::1]:0") })
}

func TestOutboundTCP(t *testing.T) {
	families(t, func(t *testing.T, cfg Config, loopback string) {
		server := echoTCP(t, listen(t, loopback))
		cfg.HostLoopback = true
		g := start(t, cfg)
		c, err := g.dialTCP(netip.AddrPortFrom(cfg.Gateway, server.Port()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		echoes(t, c, 4<<20)
	})
}

// echoes sends size bytes, ends its direction, and wants all of them back and
// then the end.
func echoes(t *testing.T, c halfCloser, size int) {
	t.Helper()
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	go func() {
		c.Write(want)
		c.CloseWrite()
	}()
	c.SetReadDeadline(time.Now().Add(60 * time.Second))
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes back, %v, want the %d that were sent", len(got), err, size)
	}
}

func TestOutboundUDP(t *testing.T) {
	families(t, func(t *testing.T, cfg Config, loopback string) {
		server := echoUDP(t, listenPacket(t, loopback))
		cfg.HostLoopback = true
		g := start(t, cfg)
		c := g.dialUDP(netip.AddrPortFrom(cfg.Gateway, server.Port()))
		for _, want := range []string{"one", strings.Repeat("x", 9000), "three"} {
			if _, err := c.Write([]byte(want)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, maxDatagram)
			k, err := c.Read(buf)
			if got := string(buf[:k]); err != nil || got != want {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(want))
			}
		}
	})
}

// One NIC with both families.
func TestBothFamilies(t *testing.T) {
	four, six := echoTCP(t, listen(t, "127.0.0.1:0")), echoTCP(t, listen(t, "[::1]:0"))
	datagrams := echoUDP(t, listenPacket(t, "[::1]:0"))
	cfg := Config{Guest: guest4, Gateway: gateway4, Guest2: guest6, Gateway2: gateway6, HostLoopback: true,
		Names: map[string]netip.Addr{"a.example": gateway6}}
	g := start(t, cfg)
	for _, to := range []netip.AddrPort{netip.AddrPortFrom(gateway4, four.Port()), netip.AddrPortFrom(gateway6, six.Port())} {
		c, err := g.dialTCP(to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		echoes(t, c, 1<<20)
	}
	for to, what := range map[netip.AddrPort][]byte{
		netip.AddrPortFrom(gateway6, datagrams.Port()): []byte("datagram"),
		netip.AddrPortFrom(gateway6, namePort):         query(t, "a.example.", dnsmessage.TypeAAAA),
	} {
		c := g.dialUDP(to)
		c.Write(what)
		buf := make([]byte, 2000)
		k, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%v: %v", to, err)
		}
		if to.Port() != namePort && string(buf[:k]) != "datagram" || to.Port() == namePort && !bytes.Contains(buf[:k], gateway6.AsSlice()) {
			t.Errorf("%v: got %q", to, buf[:k])
		}
	}
	// Neither gateway is the loopback of a host that does not open it.
	cfg.HostLoopback = false
	g = start(t, cfg)
	if c, err := g.dialTCP(netip.AddrPortFrom(gateway6, six.Port())); err == nil {
		c.Close()
		t.Error("connected to the host's loopback")
	}
}

func TestRefused(t *testing.T) {
	closed := freePort(t)
	g := start(t, Config{HostLoopback: true})
	if c, err := g.dialTCP(netip.AddrPortFrom(gateway4, closed.Port())); err == nil {
		c.Close()
		t.Error("a connection to a port where nobody listens was made")
	} else if !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// The guest must not reach the host's loopback, whatever it calls it.
func TestOutOfReach(t *testing.T) {
	server := echoTCP(t, listen(t, "127.0.0.1:0"))
	datagrams := echoUDP(t, listenPacket(t, "127.0.0.1:0"))
	g := start(t, Config{})
	for _, to := range []string{"10.213.0.1", "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "255.255.255.255", "224.0.0.1"} {
		a := netip.MustParseAddr(to)
		// Some of these are dropped without a word.
		if c, err := g.dialWithin(300*time.Millisecond, netip.AddrPortFrom(a, server.Port())); err == nil {
			c.Close()
			t.Errorf("%s: connected", to)
		}
	}
	six := echoTCP(t, listen(t, "[::1]:0"))
	g6 := start(t, Config{Guest: guest6, Gateway: gateway6})
	for _, to := range []string{gateway6.String(), "::1", "::", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.213.0.1", "fe80::1", "fd00:ec2::254", "ff02::1"} {
		for _, port := range []uint16{server.Port(), six.Port()} {
			if c, err := g6.dialWithin(100*time.Millisecond, netip.AddrPortFrom(netip.MustParseAddr(to), port)); err == nil {
				c.Close()
				t.Errorf("%s: connected", to)
			}
		}
	}
	c := g.dialUDP(netip.AddrPortFrom(gateway4, datagrams.Port()))
	c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	c.Write([]byte("x"))
	if k, err := c.Read(make([]byte, 10)); err == nil {
		t.Errorf("got %d bytes of the host's loopback", k)
	}
}

func TestReachable(t *testing.T) {
	for a, want := range map[string]bool{
		"192.0.2.1": true, "10.1.2.3": true, "2001:db8::1": true, "fd00::1": true,
		"127.0.0.1": false, "::1": false, "::ffff:127.0.0.1": false, "::127.0.0.1": false, "0.0.0.0": false, "::": false,
		"169.254.169.254": false, "fe80::1": false, "fd00:ec2::254": false, "224.0.0.251": false, "ff02::1": false, "255.255.255.255": false,
	} {
		if got := reachable(netip.MustParseAddr(a).Unmap()); got != want {
			t.Errorf("%s: got %v, want %v", a, got, want)
		}
	}
}

func TestPublishTCP(t *testing.T) {
	families(t, func(t *testing.T, cfg Config, _ string) {
		host := freePort(t)
		cfg.Publish = []Port{{TCP, host, 80}}
		g := start(t, cfg)
		echoTCP(t, g.listenTCP(80))
		c, err := net.Dial("tcp", host.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		echoes(t, c.(*net.TCPConn), 1<<20)
	})
}

func TestPublishNobody(t *testing.T) {
	host := freePort(t)
	start(t, Config{Publish: []Port{{TCP, host, 80}}})
	c, err := net.Dial("tcp", host.String())
	if errors.Is(err, syscall.ECONNRESET) {
		return // before the handshake was seen here
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

func TestPublishUDP(t *testing.T) {
	port := netip.MustParseAddrPort(listenPacketClosed(t))
	g := start(t, Config{Publish: []Port{{UDP, port, 7}}})
	in, err := dialLocal(g, 7)
	if err != nil {
		t.Fatal(err)
	}
	echoUDP(t, in)
	for range 3 { // senders are told apart
		c, err := net.Dial("udp", port.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		want := c.LocalAddr().String()
		c.Write([]byte(want))
		buf := make([]byte, 100)
		k, err := c.Read(buf)
		if got := string(buf[:k]); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

func TestPublishInUse(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	p := Port{TCP, netip.MustParseAddrPort(l.Addr().String()), 80}
	one := freePort(t)
	all := Port{TCP, netip.AddrPortFrom(netip.IPv4Unspecified(), one.Port()), 81}
	for _, ports := range [][]Port{{p}, {{TCP, one, 80}, {TCP, one, 81}}, {all, {TCP, one, 80}}} {
		if err := Check(ports...); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%v: got %v, want %v", ports, err, syscall.EADDRINUSE)
		}
	}
	if err := Check(Port{TCP, one, 80}, Port{UDP, one, 80}); err != nil {
		t.Error(err)
	}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	if _, err := New(ours, Config{Guest: guest4, Gateway: gateway4, Publish: []Port{{TCP, freePort(t), 1}, p}}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("New: got %v, want %v", err, syscall.EADDRINUSE)
	}
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection was left open: %v", err)
	}
	for _, bad := range []Port{{}, {TCP, netip.AddrPort{}, 1}, {TCP, p.Host, 0}, {"sctp", freePort(t), 1}} {
		if Check(bad) == nil {
			t.Errorf("port %v is accepted", bad)
		}
	}
}

func TestNames(t *testing.T) {
	server := nameServer(t)
	g := start(t, Config{
		Names:     map[string]netip.Addr{"host.byre.internal": gateway4},
		Resolvers: func() []netip.AddrPort { return []netip.AddrPort{freePort(t), server} },
	})
	c := g.dialUDP(netip.AddrPortFrom(gateway4, namePort))
	tc, err := g.dialTCP(netip.AddrPortFrom(gateway4, namePort))
	if err != nil {
		t.Fatal(err)
	}
	defer tc.Close()
	tc.SetDeadline(time.Now().Add(20 * time.Second))
	overUDP := func(q []byte) []byte {
		c.Write(q)
		buf := make([]byte, 2000)
		k, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return buf[:k]
	}
	overTCP := func(q []byte) []byte {
		tc.Write(withLength(q))
		b, err := readMessage(tc)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tt := range []struct {
		name string
		kind dnsmessage.Type
		send func([]byte) []byte
		want string
	}{
		{"host.byre.internal.", dnsmessage.TypeA, overUDP, "10.213.0.1"},
		{"HOST.byre.internal.", dnsmessage.TypeA, overTCP, "10.213.0.1"},
		{"host.byre.internal.", dnsmessage.TypeAAAA, overUDP, ""},
		{"elsewhere.example.", dnsmessage.TypeA, overUDP, "192.0.2.7"},
		{"elsewhere.example.", dnsmessage.TypeMX, overUDP, "192.0.2.7"}, // whatever a server says
		{"elsewhere.example.", dnsmessage.TypeA, overTCP, "192.0.2.7"},
	} {
		got, code := addresses(t, tt.send(query(t, tt.name, tt.kind)))
		if got != tt.want || code != dnsmessage.RCodeSuccess {
			t.Errorf("%s %v: got %q, %v, want %q", tt.name, tt.kind, got, code, tt.want)
		}
	}
}

// Answers as large as they can be: over TCP, and over UDP for who takes them.
func TestLargeAnswers(t *testing.T) {
	server := nameServer(t)
	g := start(t, Config{Resolvers: func() []netip.AddrPort { return []netip.AddrPort{server} }})
	q := query(t, "large.example.", dnsmessage.TypeA)
	c := g.dialUDP(netip.AddrPortFrom(gateway4, namePort))
	c.Write(q)
	buf := make([]byte, maxDatagram)
	k, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := addresses(t, buf[:k]); len(strings.Fields(got)) != largeUDP {
		t.Errorf("over UDP: got %d addresses, want %d", len(strings.Fields(got)), largeUDP)
	}
	tc, err := g.dialTCP(netip.AddrPortFrom(gateway4, namePort))
	if err != nil {
		t.Fatal(err)
	}
	defer tc.Close()
	tc.SetDeadline(time.Now().Add(20 * time.Second))
	for range 2 { // by one connection
		tc.Write(withLength(q))
		b, err := readMessage(tc)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := addresses(t, b); len(strings.Fields(got)) != largeTCP {
			t.Errorf("over TCP: got %d addresses, want %d", len(strings.Fields(got)), largeTCP)
		}
	}
}

func TestNoServer(t *testing.T) {
	g := start(t, Config{Resolvers: func() []netip.AddrPort { return nil }})
	c := g.dialUDP(netip.AddrPortFrom(gateway4, namePort))
	c.Write([]byte("no question"))
	c.Write(query(t, "elsewhere.example.", dnsmessage.TypeA))
	buf := make([]byte, 2000)
	k, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got, code := addresses(t, buf[:k]); got != "" || code != dnsmessage.RCodeServerFailure {
		t.Errorf("got %q, %v, want %v", got, code, dnsmessage.RCodeServerFailure)
	}
}

// Frames that no device sends do no harm, and one that is too long ends the
// network.
func TestHostileFrames(t *testing.T) {
	server := echoTCP(t, listen(t, "127.0.0.1:0"))
	g := start(t, Config{HostLoopback: true})
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		b := make([]byte, i%80)
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		if len(b) >= 14 {
			copy(b, gatewayMAC)
			binary.BigEndian.PutUint16(b[12:], []uint16{0x0800, 0x0806, 0x86dd}[i%3])
			if len(b) > 14 {
				b[14] = []byte{0x45, 0x00, 0x60}[i%3]
			}
		}
		g.frame(b)
	}
	c, err := g.dialTCP(netip.AddrPortFrom(gateway4, server.Port()))
	if err != nil {
		t.Fatalf("after all those frames: %v", err)
	}
	c.Close()
	g.conn.Write([]byte{0xff, 0xff, 0xff, 0xff})
	select {
	case <-g.net.Done():
	case <-time.After(10 * time.Second):
		t.Error("a frame of 4 GB did not end the network")
	}
}

// The gateway speaks for itself only.
func TestTruthful(t *testing.T) {
	ours, theirs := net.Pipe()
	n, err := New(ours, Config{Guest: guest4, Gateway: gateway4})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	defer theirs.Close()
	g := &guest{t: t, conn: theirs}
	arp := func(target netip.Addr) []byte {
		b := append([]byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x06"), 0, 1, 8, 0, 6, 4, 0, 1)
		b = append(b, "\x02\x00\x00\x00\x00\x01"...)
		b = append(b, guest4.AsSlice()...)
		b = append(b, make([]byte, 6)...)
		return append(b, target.AsSlice()...)
	}
	for _, a := range []netip.Addr{guest4, netip.MustParseAddr("10.213.0.9"), gateway4} {
		g.frame(arp(a))
	}
	theirs.SetReadDeadline(time.Now().Add(10 * time.Second))
	f, err := readFrame(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if want := gateway4.AsSlice(); !slices.Equal(f[28:32], want) {
		t.Errorf("got an answer for %v, want one for %v only", f[28:32], want)
	}
}

// Close ends everything, with connections and sessions under way, and twice.
func TestClose(t *testing.T) {
	server := echoTCP(t, listen(t, "127.0.0.1:0"))
	datagrams := echoUDP(t, listenPacket(t, "127.0.0.1:0"))
	host := freePort(t)
	g := start(t, Config{HostLoopback: true, Publish: []Port{{TCP, host, 80}, {UDP, host, 80}}})
	for range 10 {
		if _, err := g.dialTCP(netip.AddrPortFrom(gateway4, server.Port())); err != nil {
			t.Fatal(err)
		}
		g.dialUDP(netip.AddrPortFrom(gateway4, datagrams.Port())).Write([]byte("x"))
	}
	for range 2 {
		if err := g.net.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := Check(Port{TCP, host, 80}); err != nil {
		t.Errorf("the published port is still in use: %v", err)
	}
}

func TestConfigRefused(t *testing.T) {
	for _, c := range []Config{{}, {Guest: guest4, Gateway: gateway6}, {Guest: guest4, Gateway: guest4}, {Guest: guest4},
		{Guest: guest4, Gateway: gateway4, Guest2: guest6},
		{Guest: guest4, Gateway: gateway4, Gateway2: gateway6},
		{Guest: guest4, Gateway: gateway4, Guest2: guest6, Gateway2: guest6},
		{Guest: guest4, Gateway: gateway4, Guest2: gateway4, Gateway2: guest4}} {
		ours, _ := net.Pipe()
		if n, err := New(ours, c); err == nil {
			n.Close()
			t.Errorf("%+v is accepted", c)
		}
	}
}
