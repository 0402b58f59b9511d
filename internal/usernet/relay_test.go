package usernet

import (
	"io"
	"net"
	"net/netip"

	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A connection that breaks off on one side breaks off on the other: what came
// of it is not all that there is.
func TestBrokenOff(t *testing.T) {
	breaks := func(c net.Conn) {
		c.Write([]byte("half"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // the half has been read
			t.Error(err)
		}
		switch c := c.(type) {
		case *net.TCPConn:
			c.SetLinger(0)
			c.Close()
		default:
			t.Errorf("cannot break a %T off", c)
		}
	}
	broken := func(t *testing.T, c net.Conn) {
		t.Helper()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("."))
		if k, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("got %d bytes, %v, want an error", k, err)
		}
	}
	t.Run("by the host", func(t *testing.T) {
		l := listen(t, "127.0.0.1:0")
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				breaks(c)
			}
		}()
		g := start(t, Config{HostLoopback: true})
		c, err := g.dialTCP(netip.AddrPortFrom(gateway4, netip.MustParseAddrPort(l.Addr().String()).Port()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		broken(t, c)
	})
	t.Run("by the client of a published port", func(t *testing.T) {
		host := freePort(t)
		g := start(t, Config{Publish: []Port{{TCP, host, 80}}})
		l := g.listenTCP(80)
		go func() {
			if c, err := net.Dial("tcp", host.String()); err == nil {
				breaks(c)
			}
		}()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		broken(t, c)
	})
	t.Run("by the guest of a forwarder", func(t *testing.T) {
		l := listen(t, "127.0.0.1:0")
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				breaks(c)
			}
		}()
		host := freePort(t)
		f, err := Forward(netip.MustParseAddr("127.0.0.1"), []Port{{TCP, host, netip.MustParseAddrPort(l.Addr().String()).Port()}})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		c, err := net.Dial("tcp", host.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		broken(t, c)
	})
}

// Who takes no more is still heard: a server that refuses the rest of what it
// is sent, and says why.
func TestAnswerBeforeTheEnd(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.ReadFull(c, make([]byte, 1))
		c.Write([]byte("enough"))
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
	}()
	g := start(t, Config{HostLoopback: true})
	c, err := g.dialTCP(netip.AddrPortFrom(gateway4, netip.MustParseAddrPort(l.Addr().String()).Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write(make([]byte, 3*maxBuffer))
	if b, err := io.ReadAll(c); err != nil || string(b) != "enough" {
		t.Errorf("got %q, %v", b, err)
	}
	c.CloseWrite()
}

// What a guest does not take is held for a while only, and counts as long: a
// guest that ends its connections without taking what they have sent holds no
// more than one that keeps them.
func TestLingering(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				c.Write(make([]byte, maxBuffer/2))
				c.Close()
			}()
		}
	}()
	g := start(t, Config{HostLoopback: true})
	g.net.linger = 500 * time.Millisecond
	small := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: 4096, Max: 4096}
	if err := g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &small); err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(gateway4, netip.MustParseAddrPort(l.Addr().String()).Port())
	const count = 20
	for range count {
		c, err := g.dialTCP(to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.CloseWrite()
	}
	for range maxConns { // as many as there can be: then none is counted any more
		g.net.ports.conns <- struct{}{}
	}
	held := len(g.net.stack.CleanupEndpoints())
	for _, e := range g.net.stack.RegisteredEndpoints() {
		if e, ok := e.(*tcp.Endpoint); ok && tcp.EndpointState(e.State()) != tcp.StateTimeWait {
			held++
		}
	}
	if held > 0 {
		t.Errorf("%d of %d connections are held, but do not count", held, count)
	}
}
