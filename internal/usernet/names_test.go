package usernet

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// What nameServer says of names that begin with "large".
const largeUDP, largeTCP = 250, 4000

// nameServer says 192.0.2.7 to everything, and that often, over UDP and TCP.
func nameServer(t *testing.T) netip.AddrPort {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	c := listenPacket(t, l.Addr().String())
	t.Cleanup(func() { l.Close(); c.Close() })
	answer := func(question []byte, large int) []byte {
		var p dnsmessage.Parser
		h, err := p.Start(question)
		if err != nil {
			return nil
		}
		q, err := p.Question()
		if err != nil {
			return nil
		}
		asked := q
		asked.Type = dnsmessage.TypeA
		count := 1
		if strings.HasPrefix(q.Name.String(), "large") {
			count = large
		}
		return reply(h, asked, dnsmessage.RCodeSuccess, slices.Repeat([]netip.Addr{netip.MustParseAddr("192.0.2.7")}, count))
	}
	go func() {
		for {
			tc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer tc.Close()
				for {
					q, err := readMessage(tc)
					if err != nil {
						return
					}
					tc.Write(withLength(answer(q, largeTCP)))
				}
			}()
		}
	}()
	go func() {
		buf := make([]byte, 2000)
		for {
			k, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(answer(buf[:k], largeUDP), from)
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
