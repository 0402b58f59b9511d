//go:build linux

package vhostuser

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/byrevm/byre/internal/virtio"
)

// FuzzPacket sends packets of the guest to a device that has a listener and
// connections in several states. It looks for panics and broken invariants.
func FuzzPacket(f *testing.F) {
	packet := func(h header) []byte {
		var b [headerLen]byte
		h.encode(&b)
		return b[:]
	}
	base := header{srcCID: 3, dstCID: 2, srcPort: 7, dstPort: 1, typ: typeStream, bufAlloc: 1 << 16}
	for op := range uint16(9) {
		h := base
		h.op, h.length, h.flags = op, 5, 3
		f.Add(packet(h), packet(h), []byte("hello"))
		h.fwdCnt, h.srcPort, h.dstPort = ^uint32(0), 9, firstPort
		f.Add(packet(h), packet(base), []byte("hello"))
	}
	f.Fuzz(func(t *testing.T, first, second, body []byte) {
		d := bare()
		l, err := d.Listen(1)
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.addOutgoing(9)
		if err != nil {
			t.Fatal(err)
		}
		var conns []*Conn
		for range 40 {
			for _, p := range [][]byte{first, second} {
				ch := virtio.NewBuffer([][]byte{bytes.Clone(p), bytes.Clone(body)}, nil)
				if _, err := d.packet(ch); err != nil {
					continue
				}
			}
			select {
			case c := <-l.(*listener).queue:
				conns = append(conns, c)
			default:
			}
			for _, c := range append(conns, c) {
				c.check(t)
			}
		}
		if n := len(d.rx.resets); n > maxResets {
			t.Errorf("%d resets", n)
		}
		for _, c := range conns {
			c.Close()
			if c.linger != nil {
				c.linger.Stop()
			}
		}
	})
}

// check checks a connection's invariants.
func (c *Conn) check(t *testing.T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in.n > bufAlloc || len(c.in.b) > bufAlloc || c.credit() > maxCredit || int32(c.sent-c.peerFwd) < 0 {
		t.Errorf("%d of %d bytes buffered, credit %d, sent %d, forwarded %d", c.in.n, len(c.in.b), c.credit(), c.sent, c.peerFwd)
	}
}

// bare returns a device that nobody serves, up but without rings.
func bare() *Device {
	d := newDevice(nil, Config{Logger: slog.New(slog.DiscardHandler)})
	d.up = true
	return d
}
