package usernet

import (
	"net"
	"net/netip"
	"sync"
)

// senders are the sessions of a published port for datagrams.
type senders struct {
	mu  sync.Mutex
	all map[netip.AddrPort]net.Conn
}

func newSenders() *senders { return &senders{all: make(map[netip.AddrPort]net.Conn)} }

func (s *senders) get(from netip.AddrPort) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[from]
}

func (s *senders) put(from netip.AddrPort, c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[from] = c
}

func (s *senders) remove(from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, from)
}
