//go:build linux

package virtio

import (
	"io"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// FuzzChain walks virtiotest.Descriptor chains in arbitrary tables.
func FuzzChain(f *testing.F) {
	d := func(addr uint64, n uint32, flags, next uint16) []byte {
		return append(virtiotest.Words64(addr), virtiotest.Words32(n, uint32(flags)|uint32(next)<<16)...)
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
		m := newMemory([]*region{
			{gpa: 0x1000, size: 0x2000, mem: mem[:0x2000], writable: true},
			{gpa: 0x3000, size: 0x2000, mem: mem[0x2000:0x4000]},
			{gpa: ^uint64(0) - 0x1000, size: 0x1000, mem: mem[0x4000:0x5000], writable: true},
		})
		r := &Ring{name: "test", num: num, indirect: indirect, mem: m, desc: mem[:num*descLen]}
		c := &Buffer{}
		err := r.walk(head, c)
		var read, write int
		for _, p := range c.In.parts {
			read += len(p)
		}
		for _, p := range c.Out.parts {
			write += len(p)
		}
		if read != c.In.left || write != c.Out.left || len(c.In.parts)+len(c.Out.parts) > maxParts {
			t.Errorf("%d readable of %d, %d writable of %d", read, c.In.left, write, c.Out.left)
		}
		if err != nil {
			return
		}
		if err := c.In.Take(make([]byte, min(read, 1<<16))); err != nil {
			t.Error(err)
		}
		for _, p := range c.Out.parts {
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
		return append(virtiotest.Words32(request, virtiotest.Version|virtiotest.NeedReply, uint32(len(p))), p...)
	}
	ring := func(i uint32) (b []byte) {
		b = append(b, msg(virtiotest.SetVringNum, virtiotest.Words32(i, 8))...)
		b = append(b, msg(virtiotest.SetVringBase, virtiotest.Words32(i, 0))...)
		b = append(b, msg(virtiotest.SetVringAddr, virtiotest.Words32(i, 0), virtiotest.Words64(virtiotest.UserBase, virtiotest.UserBase+4096, virtiotest.UserBase+8192, 0))...)
		b = append(b, msg(virtiotest.SetVringCall, virtiotest.Words64(uint64(i)))...)
		b = append(b, msg(virtiotest.SetVringKick, virtiotest.Words64(uint64(i)))...)
		return append(b, msg(virtiotest.SetVringEnable, virtiotest.Words32(i, 1))...)
	}
	start := append(msg(virtiotest.SetProtocolFeatures, virtiotest.Words64(protoAlways)), msg(virtiotest.SetFeatures, virtiotest.Words64(ringFeatures))...)
	start = append(start, msg(virtiotest.AddMemReg, virtiotest.Words64(0, virtiotest.GuestBase, 1<<16, virtiotest.UserBase, 0))...)
	f.Add(append(append(start, ring(0)...), ring(1)...), []byte{0, 0, 1, 0, 0, 0, 2, 2, 0, 0, 0, 0, 2, 2, 0}, []byte{})
	f.Add(msg(virtiotest.SetMemTable, virtiotest.Words32(1, 0), virtiotest.Words64(virtiotest.GuestBase, 4096, virtiotest.UserBase, 0)), []byte{1}, []byte{1, 2, 3})
	for r := range uint32(40) {
		f.Add(msg(r, virtiotest.Words64(0)), []byte{0}, []byte{})
	}
	f.Fuzz(func(t *testing.T, stream, with, content []byte) {
		a, b := virtiotest.Pair(t)
		d := NewDevice(a, Config{Name: "test", Queues: 2, Serve: echo, Logger: slog.New(slog.DiscardHandler)})
		defer d.Close()
		defer b.Close()
		go io.Copy(io.Discard, b)
		mem, event := virtiotest.Memfd(t, 1<<16), virtiotest.Eventfd(t)
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

// FuzzRings lets a device run on rings of arbitrary content, with chains that
// take their time.
func FuzzRings(f *testing.F) {
	f.Add([]byte{}, uint16(1))
	f.Add(virtiotest.Words64(virtiotest.GuestBase+0x2000, 44|1<<32), uint16(3))
	f.Add(virtiotest.Words64(virtiotest.GuestBase+0x2000, 64|2<<32, virtiotest.GuestBase+0x3000, 64|2<<32), uint16(2))
	f.Fuzz(func(t *testing.T, content []byte, idx uint16) {
		d, dr := attach(t, virtiotest.Config{Num: 16, Events: true}, func(q int, c *Chain) {
			if q == 0 {
				go echo(q, c)
				return
			}
			pieces := c.Out.Slice(1 << 20)
			c.Yield()
			n := 0
			for _, p := range pieces {
				n += len(p)
			}
			c.Done(n)
		})
		dr.Handshake()
		dr.AddMemory()
		dr.Do(virtiotest.SetFeatures, virtiotest.Words64(ringFeatures))
		a, b := dr.Queue(0), dr.Queue(1)
		copy(dr.Mem[:1<<16], content)
		for _, q := range []*virtiotest.Queue{a, b} {
			dr.Mem[q.Avail+2], dr.Mem[q.Avail+3] = byte(idx), byte(idx>>8)
		}
		_, _ = a.TryStart(), b.TryStart() // the device may have ended by then
		a.DoKick()
		b.DoKick()
		if dr.Try(virtiotest.SetVringEnable, virtiotest.Words32(1, 0)) == nil {
			_ = dr.Try(virtiotest.SetVringEnable, virtiotest.Words32(1, 1))
		}
		dr.Sock.CloseWrite()
		<-d.Done()
	})
}
