//go:build linux

package vhostuser

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// A guest is the driver and the sockets of a guest, as Linux has them.
type guest struct {
	*virtiotest.Frontend
	guestConfig
	rx, tx  *virtiotest.Queue
	rxSlots []slot
	txSlots []slot

	txMu   sync.Mutex // the transmit queue
	txFree []int

	mu    sync.Mutex
	cond  *sync.Cond
	socks map[key]*sock // key.local is the host's port
	ports map[uint32]chan *sock
	mute  bool // answer nothing, drop everything
	hold  bool // take no received packet off the ring
	seen  []header

	wg sync.WaitGroup
}

type guestConfig struct {
	events, indirect bool
	num              uint16
	rxSize           int // bytes of each receive buffer, with header
	alloc            uint32
}

// a slot is a buffer with the descriptors that describe it.
type slot struct {
	head   uint16
	header uint64 // offsets
	body   uint64
	size   int
}

const txSize = 64 << 10

// attach starts a device and its front end.
func attach(t testing.TB) (*Device, *virtiotest.Frontend) {
	t.Helper()
	a, b := virtiotest.Pair(t)
	f := virtiotest.New(t, b)
	d := New(a, Config{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { d.Close() })
	return d, f
}

// boot attaches a guest whose driver is up.
func boot(t testing.TB, c guestConfig) (*Device, *guest) {
	t.Helper()
	d, f := attach(t)
	g := newGuest(f, c)
	g.Handshake()
	g.AddMemory()
	g.start()
	t.Cleanup(func() {
		d.Close()
		g.rx.Call.Close()
		g.tx.Call.Close()
		g.wg.Wait()
	})
	return d, g
}

func newGuest(f *virtiotest.Frontend, c guestConfig) *guest {
	if c.num == 0 {
		c.num = 64
	}
	if c.rxSize == 0 {
		c.rxSize = 4096 + headerLen
	}
	if c.alloc == 0 {
		c.alloc = 256 << 10
	}
	g := &guest{Frontend: f, guestConfig: c, socks: map[key]*sock{}, ports: map[uint32]chan *sock{}}
	g.cond = sync.NewCond(&g.mu)
	g.rx, g.tx = f.NewQueue(0, c.num, c.events), f.NewQueue(1, c.num, c.events)
	g.rxSlots = g.slots(g.rx, c.rxSize-headerLen, virtiotest.DescWrite)
	g.txSlots = g.slots(g.tx, txSize, 0)
	return g
}

// slots makes the buffers of a queue: a header and a body each, as in Linux 6.1.
func (g *guest) slots(q *virtiotest.Queue, size int, flags uint16) []slot {
	n := int(q.Num)
	if !g.indirect {
		n /= 2
	}
	var ss []slot
	for i := range n {
		s := slot{header: g.Frontend.Alloc(headerLen), body: g.Frontend.Alloc(uint64(size)), size: size}
		table, first := q.Desc, 2*i
		if g.indirect {
			table, first = g.Frontend.Alloc(2*virtiotest.DescLen), 0
			g.Describe(q.Desc, i, virtiotest.Desc(virtiotest.GuestBase+table, 2*virtiotest.DescLen, virtiotest.DescIndirect, 0))
			s.head = uint16(i)
		} else {
			s.head = uint16(first)
		}
		g.Describe(table, first, virtiotest.Desc(virtiotest.GuestBase+s.header, headerLen, flags|virtiotest.DescNext, uint16(first+1)))
		g.Describe(table, first+1, virtiotest.Desc(virtiotest.GuestBase+s.body, uint32(size), flags, 0))
		ss = append(ss, s)
	}
	return ss
}

func (g *guest) slot(ss []slot, head uint16) int {
	if g.indirect {
		return int(head)
	}
	return int(head / 2)
}

// start brings the driver up, with every receive buffer posted.
func (g *guest) start() {
	g.T.Helper()
	var f uint64 = virtiotest.FeatProtocol | virtiotest.FeatVersion1
	if g.events {
		f |= virtiotest.FeatEvents
	}
	if g.indirect {
		f |= virtiotest.FeatIndirect
	}
	g.Do(virtiotest.SetFeatures, virtiotest.Words64(f))
	g.rx.Start()
	g.tx.Start()
	for i := range g.txSlots {
		g.txFree = append(g.txFree, i)
	}
	for i := range g.rxSlots {
		g.rx.Offer(g.rxSlots[i].head)
	}
	g.wg.Go(g.receiveLoop)
}

func (g *guest) receiveLoop() {
	for {
		g.mu.Lock()
		for g.hold {
			g.cond.Wait()
		}
		g.mu.Unlock()
		head, n, ok := g.rx.Take()
		if !ok {
			if g.rx.Wait() != nil {
				return
			}
			continue
		}
		s := g.rxSlots[g.slot(g.rxSlots, head)]
		var b [headerLen]byte
		copy(b[:], g.Mem[s.header:])
		var h header
		h.decode(&b)
		if n != headerLen+int(h.length) {
			g.T.Errorf("%d bytes used for %+v", n, h)
		}
		body := append([]byte(nil), g.Mem[s.body:s.body+uint64(h.length)]...)
		g.rx.Offer(head)
		g.receive(h, body)
	}
}

// transmit sends a packet; it waits for a free slot only.
func (g *guest) transmit(h header, body []byte) {
	g.txMu.Lock()
	defer g.txMu.Unlock()
	for len(g.txFree) == 0 {
		head, _, ok := g.tx.Take()
		if ok {
			g.txFree = append(g.txFree, g.slot(g.txSlots, head))
		} else if g.tx.Wait() != nil {
			return
		}
	}
	s := g.txSlots[g.txFree[len(g.txFree)-1]]
	g.txFree = g.txFree[:len(g.txFree)-1]
	var b [headerLen]byte
	h.length = uint32(len(body))
	h.encode(&b)
	copy(g.Mem[s.header:], b[:])
	copy(g.Mem[s.body:], body)
	g.tx.Offer(s.head)
}

// A sock is a socket of the guest.
type sock struct {
	g *guest
	key
	in                   []byte
	fwd, told            uint32
	sent, hostFwd, alloc uint32
	up, reset            bool
	hostShut             uint32
}

func (g *guest) newSock(k key) *sock {
	s := &sock{g: g, key: k}
	g.socks[k] = s
	return s
}

func (s *sock) header(op uint16) header {
	s.told = s.fwd
	return header{
		srcCID: 3, dstCID: 2, srcPort: s.remote, dstPort: s.local, typ: typeStream, op: op,
		bufAlloc: s.g.guestConfig.alloc, fwdCnt: s.fwd,
	}
}

// receive does what virtio_transport_recv_pkt does.
func (g *guest) receive(h header, body []byte) {
	g.mu.Lock()
	g.seen = append(g.seen, h)
	g.cond.Broadcast()
	if g.mute {
		g.mu.Unlock()
		return
	}
	k := key{h.srcPort, h.dstPort}
	s := g.socks[k]
	var answer *header
	say := func(h header) { answer = &h }
	switch {
	case h.srcCID != 2 || h.dstCID != 3 || h.typ != typeStream:
		g.T.Errorf("host sent %+v", h)
	case s == nil && h.op == opRequest && g.ports[h.dstPort] != nil:
		s = g.newSock(k)
		s.up = true
		s.alloc = h.bufAlloc
		g.ports[h.dstPort] <- s
		say(s.header(opResponse))
	case s == nil:
		if h.op != opReset {
			say(h.reset())
		}
	default:
		s.alloc, s.hostFwd = h.bufAlloc, h.fwdCnt
		switch h.op {
		case opResponse:
			s.up = true
		case opReset:
			s.reset = true
			delete(g.socks, k)
		case opShutdown:
			s.hostShut |= h.flags
			if s.hostShut == shutBoth {
				s.reset = true
				delete(g.socks, k)
				say(s.header(opReset))
			}
		case opData:
			if len(s.in)+len(body) > int(g.guestConfig.alloc) {
				g.T.Errorf("host sent more than its credit: %d buffered, %d more", len(s.in), len(body))
			}
			s.in = append(s.in, body...)
		case opCreditRequest:
			say(s.header(opCreditUpdate))
		}
	}
	g.cond.Broadcast()
	g.mu.Unlock()
	if answer != nil {
		g.transmit(*answer, nil)
	}
}

var errReset = errors.New("reset by host")

// dial connects to a host port.
func (g *guest) dial(port, from uint32) (*sock, error) {
	g.mu.Lock()
	s := g.newSock(key{port, from})
	h := s.header(opRequest)
	g.mu.Unlock()
	g.transmit(h, nil)
	g.mu.Lock()
	defer g.mu.Unlock()
	for !s.up && !s.reset {
		g.cond.Wait()
	}
	if !s.up {
		return nil, errReset
	}
	return s, nil
}

// listen accepts on a guest port.
func (g *guest) listen(port uint32) chan *sock {
	c := make(chan *sock, 1000)
	g.mu.Lock()
	g.ports[port] = c
	g.mu.Unlock()
	return c
}

func (s *sock) Read(p []byte) (int, error) {
	s.g.mu.Lock()
	for len(s.in) == 0 {
		if s.hostShut&shutSend != 0 {
			s.g.mu.Unlock()
			return 0, io.EOF
		}
		if s.reset {
			s.g.mu.Unlock()
			return 0, errReset
		}
		s.g.cond.Wait()
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	s.fwd += uint32(n)
	var h header
	update := s.g.guestConfig.alloc-(s.fwd-s.told) < 64<<10
	if update = update && !s.reset; update {
		h = s.header(opCreditUpdate)
	}
	s.g.mu.Unlock()
	if update {
		s.g.transmit(h, nil)
	}
	return n, nil
}

func (s *sock) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		s.g.mu.Lock()
		credit := 0
		for {
			if s.reset || s.hostShut&shutRecv != 0 {
				s.g.mu.Unlock()
				return n, errReset
			}
			if credit = int(s.alloc) - int(s.sent-s.hostFwd); credit > 0 {
				break
			}
			s.g.cond.Wait()
		}
		m := min(credit, len(p), txSize)
		s.sent += uint32(m)
		h := s.header(opData)
		s.g.mu.Unlock()
		s.g.transmit(h, p[:m])
		p, n = p[m:], n+m
	}
	return n, nil
}

// shutdown sends a shutdown packet.
func (s *sock) shutdown(flags uint32) {
	s.g.mu.Lock()
	h := s.header(opShutdown)
	s.g.mu.Unlock()
	h.flags = flags
	s.g.transmit(h, nil)
}

// abort resets the connection.
func (s *sock) abort() {
	s.g.mu.Lock()
	h := s.header(opReset)
	delete(s.g.socks, s.key)
	s.reset = true
	s.g.cond.Broadcast()
	s.g.mu.Unlock()
	s.g.transmit(h, nil)
}

// await waits until the guest has seen a packet that f likes.
func (g *guest) await(f func(h header) bool) header {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := 0; ; i++ {
		for i >= len(g.seen) {
			g.cond.Wait()
		}
		if f(g.seen[i]) {
			return g.seen[i]
		}
	}
}
