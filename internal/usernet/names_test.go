package usernet

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// nameServer says 192.0.2.7 to everything, over UDP.
func nameServer(t *testing.T) netip.AddrPort {
	t.Helper()
	c := listenPacket(t, "127.0.0.1:0")
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			k, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var p dnsmessage.Parser
			h, err := p.Start(buf[:k])
			if err != nil {
				continue
			}
			q, err := p.Question()
			if err != nil {
				continue
			}
			asked := q
			asked.Type = dnsmessage.TypeA
			c.WriteTo(reply(h, asked, dnsmessage.RCodeSuccess, []netip.Addr{netip.MustParseAddr("192.0.2.7")}), from)
		}
	}()
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

func query(t *testing.T, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 77, RecursionDesired: true})
	err := errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{
		Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET,
	}))
	q, ferr := b.Finish()
	if err := errors.Join(err, ferr); err != nil {
		t.Fatal(err)
	}
	return q
}

// addresses returns what an answer has, with spaces between.
func addresses(t *testing.T, b []byte) (string, dnsmessage.RCode) {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	if m.ID != 77 || !m.Response {
		t.Errorf("got header %+v", m.Header)
	}
	var all []string
	for _, r := range m.Answers {
		if a, ok := r.Body.(*dnsmessage.AResource); ok {
			all = append(all, netip.AddrFrom4(a.A).String())
		}
	}
	return strings.Join(all, " "), m.RCode
}

// listenPacketClosed returns an address of the loopback that is free for UDP.
func listenPacketClosed(t *testing.T) string {
	t.Helper()
	c := listenPacket(t, "127.0.0.1:0")
	defer c.Close()
	return c.LocalAddr().String()
}

// dialLocal opens a port of the guest for datagrams.
func dialLocal(g *guest, port uint16) (net.PacketConn, error) {
	return gonet.DialUDP(g.stack, &tcpip.FullAddress{NIC: 1, Addr: address(g.cfg.Guest), Port: port}, nil, g.proto())
}
