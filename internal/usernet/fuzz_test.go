package usernet

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Whatever a guest sends, the network can be ended.
func FuzzFrames(f *testing.F) {
	frame := func(parts ...[]byte) []byte {
		var all []byte
		for _, p := range parts {
			all = binary.BigEndian.AppendUint32(all, uint32(len(p)))
			all = append(all, p...)
		}
		return all
	}
	arp := append(make([]byte, 12), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	ip := append(make([]byte, 12), 8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1)
	f.Add(frame(arp, ip, nil))
	f.Add([]byte{0, 0, 0, 255, 1})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		n, err := New(ours, Config{
			Guest: guest4, Gateway: gateway4, Resolvers: func() []netip.AddrPort { return nil }, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		// As if there were as many connections as there can be: none is made.
		for range maxConns {
			n.ports.conns <- struct{}{}
		}
		for range maxSessions {
			n.ports.sessions <- struct{}{}
		}
		go io.Copy(io.Discard, theirs)
		go func() { // which a network that has ended does not read
			theirs.Write(b)
			theirs.Close()
		}()
		<-n.Done()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
}

// An answer is one to the question, or there is none.
func FuzzAnswer(f *testing.F) {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("gateway.byre.internal."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	q, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Add([]byte{})
	n := &Net{cfg: Config{
		Names: map[string]netip.Addr{"gateway.byre.internal": gateway4}, Resolvers: func() []netip.AddrPort { return nil },
	}, life: newLife()}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := n.answer(UDP, b)
		if a == nil {
			return
		}
		var p dnsmessage.Parser
		h, err := p.Start(a)
		if err != nil || !h.Response || h.ID != binary.BigEndian.Uint16(b) {
			t.Errorf("got %x, %v for %x", a, err, b)
		}
	})
}
