package usernet

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	namePort   = 53
	serverTime = 3 * time.Second // that a server has for an answer
	maxMessage = 4096            // of a question
	nameTTL    = 60              // seconds that the guest may keep what is not asked of a server
)

// answerUDP answers the questions that a socket of the guest sends.
func (n *Net) answerUDP(guest net.Conn) {
	if !n.keep(guest) {
		return
	}
	defer n.drop(guest)
	buf := make([]byte, maxMessage)
	for {
		guest.SetReadDeadline(time.Now().Add(idleTime))
		k, err := guest.Read(buf)
		if err != nil {
			return
		}
		if !take(n.questions) {
			continue // the guest asks again
		}
		question := append([]byte(nil), buf[:k]...)
		ok := n.goes(func() {
			defer give(n.questions)
			if a := n.answer("udp", question); a != nil {
				guest.Write(a)
			}
		})
		if !ok {
			give(n.questions)
			return
		}
	}
}

// answerTCP answers the questions of a connection of the guest, each of which
// has its length before it.
func (n *Net) answerTCP(guest net.Conn) {
	r := bufio.NewReader(guest)
	for {
		guest.SetReadDeadline(time.Now().Add(idleTime))
		question, err := readMessage(r)
		if err != nil {
			return
		}
		a := n.answer("tcp", question)
		if a == nil {
			return
		}
		if _, err := guest.Write(withLength(a)); err != nil {
			return
		}
	}
}

func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func withLength(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// answer returns the answer to a question, nil to one that is none. Names that
// the configuration or the host's files have are answered here; everything
// else is asked of the host's servers, word for word.
func (n *Net) answer(network string, question []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(question)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(n.ctx, dialTime)
	defer cancel()
	if addrs := n.known(ctx, q); addrs != nil {
		return reply(h, q, dnsmessage.RCodeSuccess, addrs)
	}
	for _, server := range n.cfg.Resolvers() {
		if a, err := ask(ctx, network, server, h.ID, question); err == nil {
			return a
		} else if !errors.Is(err, context.Canceled) {
			n.log.Debug("server of names did not answer", "server", server, "err", err)
		}
	}
	return reply(h, q, dnsmessage.RCodeServerFailure, nil)
}

// known returns the addresses of a name that is known here, nil if it is not.
func (n *Net) known(ctx context.Context, q dnsmessage.Question) []netip.Addr {
	if q.Class != dnsmessage.ClassINET || q.Type != dnsmessage.TypeA && q.Type != dnsmessage.TypeAAAA {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if a, ok := n.cfg.Names[name]; ok {
		return []netip.Addr{a}
	}
	var found []netip.Addr
	addrs, _ := files.LookupNetIP(ctx, "ip", name)
	for _, a := range addrs {
		// What means the host itself there would mean the container here.
		if a = a.Unmap(); !a.IsLoopback() {
			found = append(found, a)
		}
	}
	return found
}

// files looks names up in the host's files only.
var files = &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("no server is asked")
}}

// reply makes an answer with those of addrs that the question is for.
func reply(h dnsmessage.Header, q dnsmessage.Question, code dnsmessage.RCode, addrs []netip.Addr) []byte {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: h.ID, Response: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: code,
	})
	b.EnableCompression()
	err := errors.Join(b.StartQuestions(), b.Question(q), b.StartAnswers())
	rh := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: nameTTL}
	for _, a := range addrs {
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			err = errors.Join(err, b.AResource(rh, dnsmessage.AResource{A: a.As4()}))
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			err = errors.Join(err, b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: a.As16()}))
		}
	}
	m, ferr := b.Finish()
	if errors.Join(err, ferr) != nil {
		return nil
	}
	return m
}

// ask puts a question to a server.
func ask(ctx context.Context, network string, server netip.AddrPort, id uint16, question []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, serverTime)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if network == "tcp" {
		if _, err := c.Write(withLength(question)); err != nil {
			return nil, err
		}
		return readMessage(c)
	}
	if _, err := c.Write(question); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10)
	for {
		k, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if k >= 12 && binary.BigEndian.Uint16(buf) == id {
			return buf[:k], nil
		}
	}
}

// hostFiles say which servers this host asks. The second is the list that a
// server of the host's own, on its loopback, asks.
var hostFiles = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// HostServers returns the addresses of the host's servers of names that others
// can reach, too: those that are not on its loopback.
func HostServers() []string {
	for _, file := range hostFiles {
		var found []string
		for _, a := range nameServers(file) {
			if reachable(a) {
				found = append(found, a.String())
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// hostResolvers reads the servers of the host.
func hostResolvers() (servers []netip.AddrPort) {
	for _, a := range nameServers(hostFiles[0]) {
		servers = append(servers, netip.AddrPortFrom(a, namePort))
	}
	return servers
}

func nameServers(file string) (servers []netip.Addr) {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, a.Unmap())
		}
	}
	return servers
}
