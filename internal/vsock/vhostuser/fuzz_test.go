//go:build linux

package vhostuser

import (
	"io"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"
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
				ch := &chain{}
				ch.read.add(append([]byte(nil), p...))
				ch.read.add(append([]byte(nil), body...))
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

// FuzzChain walks descriptor chains in arbitrary tables.
func FuzzChain(f *testing.F) {
	d := func(addr uint64, n uint32, flags, next uint16) []byte {
		return append(words64(addr), words32(n, uint32(flags)|uint32(next)<<16)...)
	}
	cat := func(p ...[]byte) (b []byte) {
		for _, x := range p {
			b = append(b, x...)
		}
		return b
	}
	f.Add(cat(d(0x1000, 44, 0, 0)), uint16(0), true)
	f.Add(cat(d(0x1000, 44, 1, 1), d(0x2000, 100, 2, 0)), uint16(0), true)
	f.Add(cat(d(0x1000, 64, 4, 0), d(0x4ff0, 100, 0, 0)), uint16(0), true)
	f.Add(cat(d(0x4fff, 4096, 3, 1), d(0x4fff, 1, 3, 0)), uint16(1), false)
	f.Fuzz(func(t *testing.T, table []byte, head uint16, indirect bool) {
		const num = 16
		mem := make([]byte, 0x8000)
		copy(mem, table)
		copy(mem[0x1000:], table) // also what indirect descriptors point to
		m := &memory{[]*region{
			{gpa: 0x1000, size: 0x2000, mem: mem[:0x2000], writable: true},
			{gpa: 0x3000, size: 0x2000, mem: mem[0x2000:0x4000]},
			{gpa: ^uint64(0) - 0x1000, size: 0x1000, mem: mem[0x4000:0x5000], writable: true},
		}}
		r := &ring{name: "test", num: num, indirect: indirect, mem: m, desc: mem[:num*descLen]}
		c := &chain{}
		err := r.walk(head, c)
		var read, write uint64
		for _, p := range c.read.parts {
			read += uint64(len(p))
		}
		for _, p := range c.write.parts {
			write += uint64(len(p))
		}
		if read != c.read.left || write != c.write.left {
			t.Errorf("%d readable of %d, %d writable of %d", read, c.read.left, write, c.write.left)
		}
		if err != nil {
			return
		}
		c.read.take(make([]byte, min(read, 1<<16)))
		for _, p := range c.write.parts {
			for i := range p { // a fault here would be a slice out of its region
				p[i]++
			}
		}
		for i := range mem[0x2000:0x4000] {
			if want := at(table, 0x1000, i+0x2000); mem[0x2000+i] != want {
				t.Fatalf("read-only memory has changed at %#x", 0x3000+i)
			}
		}
	})
}

// at is what FuzzChain put at mem[i].
func at(table []byte, second, i int) byte {
	if i >= second && i-second < len(table) {
		return table[i-second]
	}
	if i < second && i < len(table) || i >= second && i < len(table) {
		return table[i]
	}
	return 0
}

// FuzzMessages plays a hostile QEMU: a stream of bytes with descriptors.
func FuzzMessages(f *testing.F) {
	msg := func(request uint32, payload ...[]byte) []byte {
		var p []byte
		for _, x := range payload {
			p = append(p, x...)
		}
		return append(words32(request, msgVersion|msgNeedReply, uint32(len(p))), p...)
	}
	ring := func(i uint32) (b []byte) {
		b = append(b, msg(reqSetVringNum, words32(i, 8))...)
		b = append(b, msg(reqSetVringBase, words32(i, 0))...)
		b = append(b, msg(reqSetVringAddr, words32(i, 0), words64(userBase, userBase+4096, userBase+8192, 0))...)
		b = append(b, msg(reqSetVringCall, words64(uint64(i)))...)
		b = append(b, msg(reqSetVringKick, words64(uint64(i)))...)
		return append(b, msg(reqSetVringEnable, words32(i, 1))...)
	}
	start := append(msg(reqSetProtocolFeatures, words64(protocol)), msg(reqSetFeatures, words64(features))...)
	start = append(start, msg(reqAddMemReg, words64(0, guestBase, 1<<16, userBase, 0))...)
	f.Add(append(append(start, ring(0)...), ring(1)...), []byte{0, 0, 1, 0, 0, 0, 2, 2, 0, 0, 0, 0, 2, 2, 0}, []byte{})
	f.Add(msg(reqSetMemTable, words32(1, 0), words64(guestBase, 4096, userBase, 0)), []byte{1}, []byte{1, 2, 3})
	for r := range uint32(40) {
		f.Add(msg(r, words64(0)), []byte{0}, []byte{})
	}
	f.Fuzz(func(t *testing.T, stream, with, content []byte) {
		a, b := pair(t)
		d := New(a, Config{Logger: slog.New(slog.DiscardHandler)})
		defer d.Close()
		defer b.Close()
		go io.Copy(io.Discard, b)
		l, err := d.Listen(1)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		mem, event := memfd(t, 1<<16), eventfd(t)
		mem.WriteAt(content[:min(len(content), 1<<16)], 0)
		memFD, eventFD := int(mem.Fd()), int(event.Fd())
		for i := 0; len(stream) > 0; i++ {
			n := len(stream)
			if n >= msgHeaderLen { // one message, if it says its length
				if size := uint32(stream[8]) | uint32(stream[9])<<8; int(size)+msgHeaderLen < n {
					n = int(size) + msgHeaderLen
				}
			}
			var oob []byte
			if i < len(with) {
				switch with[i] % 4 {
				case 1:
					oob = unix.UnixRights(memFD)
				case 2:
					oob = unix.UnixRights(eventFD)
				case 3:
					oob = unix.UnixRights(memFD, eventFD)
				}
			}
			if _, _, err := b.WriteMsgUnix(stream[:n], oob, nil); err != nil {
				break
			}
			stream = stream[n:]
		}
		b.CloseWrite()
		<-d.Done()
	})
}

// FuzzRings lets a device run on rings of arbitrary content.
func FuzzRings(f *testing.F) {
	f.Add([]byte{}, uint16(1))
	f.Add(words64(guestBase+0x2000, 44|1<<32), uint16(3))
	f.Fuzz(func(t *testing.T, content []byte, idx uint16) {
		d, fe := attach(t)
		fe.handshake()
		fe.addMemory()
		fe.do(reqSetFeatures, words64(features))
		rx, tx := fe.newQueue(0, 16, true), fe.newQueue(1, 16, true)
		copy(fe.mem[:1<<16], content)
		fe.mem[tx.avail+2], fe.mem[tx.avail+3] = byte(idx), byte(idx>>8)
		fe.mem[rx.avail+2], fe.mem[rx.avail+3] = byte(idx), byte(idx>>8)
		_, _ = rx.tryStart(), tx.tryStart() // the device may have ended by then
		if l, err := d.Listen(1); err == nil {
			l.Close()
		}
		tx.kick.Write(one)
		rx.kick.Write(one)
		fe.sock.CloseWrite()
		<-d.Done()
	})
}
