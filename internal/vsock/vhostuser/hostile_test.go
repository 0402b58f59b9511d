//go:build linux

package vhostuser

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
)

// ends waits for the device to end and checks the reason.
func ends(t *testing.T, d *Device, want string) {
	t.Helper()
	<-d.Done()
	if err := d.Err(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// The guest's data reaches the reader although the device ends.
func TestDeviceEnds(t *testing.T) {
	for _, how := range []string{"QEMU gone", "closed", "driver stopped", "guest broken"} {
		t.Run(how, func(t *testing.T) {
			d, g := boot(t, guestConfig{events: true})
			l := listen(t, d, 9)
			c, s := connect(t, d, g, 1)
			c2, _ := connect(t, d, g, 2)
			stuck := make(chan error)
			go func() { stuck <- second(c2.Write(random(1 << 20))) }()
			eventually(t, c2.stuck)
			s.Write([]byte("last words"))
			s2, err := g.dial(9, 9)
			if err != nil {
				t.Fatal(err)
			}
			s2.Write([]byte("never accepted"))
			s2.shutdown(shutBoth)
			want := error(syscall.ECONNRESET)
			switch how {
			case "QEMU gone":
				g.Sock.Close()
				ends(t, d, io.EOF.Error())
				if d.Err() != io.EOF {
					t.Errorf("got %v, want EOF", d.Err())
				}
			case "closed":
				d.Close()
				d.Close()
				want = net.ErrClosed
			case "driver stopped":
				g.rx.Stop()
				g.tx.Stop()
			case "guest broken":
				// After everything else: the ring is taken in order.
				g.txMu.Lock()
				g.tx.Offer(g.num)
				g.txMu.Unlock()
				ends(t, d, "descriptor index out of range")
			}
			b, err := io.ReadAll(c)
			if string(b) != "last words" || !errors.Is(err, want) {
				t.Errorf("got %q, %v, want %v", b, err, want)
			}
			if err := <-stuck; !errors.Is(err, want) {
				t.Errorf("writer: got %v, want %v", err, want)
			}
			c3 := accept(t, l)
			if b, err := io.ReadAll(c3); string(b) != "never accepted" || err != nil {
				t.Errorf("got %q, %v", b, err)
			}
			if how == "driver stopped" {
				return
			}
			if _, err := l.Accept(); err == nil {
				t.Error("accepted")
			}
			l.Close()
		})
	}
}

// What the guest put into the ring right before it went is taken, too.
func TestLastPackets(t *testing.T) {
	d, g := boot(t, guestConfig{events: true})
	l := listen(t, d, 3)
	c, s := connect(t, d, g, 1)
	d.tx.Lock() // so that nothing is taken before QEMU is gone
	s.Write([]byte("power off"))
	s.shutdown(shutBoth)
	n := (&sock{g: g, key: key{3, 4}}).header(opRequest)
	g.transmit(n, nil)
	n.op = opData
	g.transmit(n, []byte("boo"))
	g.Sock.Close()
	d.tx.Unlock()
	if b, err := io.ReadAll(c); string(b) != "power off" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if b, _ := io.ReadAll(accept(t, l)); string(b) != "boo" {
		t.Errorf("got %q", b)
	}
}

// A driver that comes back, as after a reboot, finds a working device.
func TestDriverRestarts(t *testing.T) {
	d, g := boot(t, guestConfig{events: true, indirect: true})
	l := listen(t, d, 1)
	if _, err := g.dial(1, 1); err != nil {
		t.Fatal(err)
	}
	c := accept(t, l)
	for range 3 {
		if g.rx.Stop() != g.rx.UsedIdx && g.rx.Stop() == 0 {
			t.Error("the ring's position is wrong")
		}
		g.tx.Stop()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("got %v, want ECONNRESET", err)
		}
		g.restart(t)
		s, err := g.dial(1, 1)
		if err != nil {
			t.Fatal(err)
		}
		c = accept(t, l)
		go s.Write([]byte("again"))
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
	}
}

// restart is what a new driver does: everything from zero.
func (g *guest) restart(t *testing.T) {
	t.Helper()
	g.rx.Call.Close()
	g.wg.Wait()
	for _, q := range []*virtiotest.Queue{g.rx, g.tx} {
		clear(g.Mem[q.Avail : q.Avail+6+2*uint64(q.Num)])
		clear(g.Mem[q.Used : q.Used+6+8*uint64(q.Num)])
		q.AvailIdx, q.UsedIdx = 0, 0
		q.Kick, q.Call = virtiotest.Eventfd(t), virtiotest.Eventfd(t)
	}
	g.txFree = nil
	clear(g.socks)
	g.start()
}

// Memory comes and goes while the rings run, and the region of the rings itself
// is replaced.
func TestMemorySlots(t *testing.T) {
	d, g := boot(t, guestConfig{})
	c, s := connect(t, d, g, 1)
	extra := virtiotest.Memfd(t, 2<<20)
	for i := range uint64(120) {
		g.Do(virtiotest.AddMemReg, virtiotest.Words64(0, 1<<40+i<<21, 2<<20, 1<<45+i<<21, 0), extra)
	}
	go s.Write([]byte("one"))
	if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(120) {
		g.Do(virtiotest.RemMemReg, virtiotest.Words64(0, 1<<40+i<<21, 2<<20, 1<<45+i<<21, 0))
	}
	whole := virtiotest.Words64(0, virtiotest.GuestBase, virtiotest.GuestSize, virtiotest.UserBase, 0)
	g.Do(virtiotest.RemMemReg, whole)
	s.Write([]byte("two")) // nobody looks
	g.Do(virtiotest.AddMemReg, whole, g.FD)
	if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	// The old way: the whole table at once.
	table := append(virtiotest.Words32(2, 0), virtiotest.Words64(virtiotest.GuestBase, virtiotest.GuestSize/2, virtiotest.UserBase, 0, virtiotest.GuestBase+virtiotest.GuestSize/2, virtiotest.GuestSize/2, virtiotest.UserBase+virtiotest.GuestSize/2, virtiotest.GuestSize/2)...)
	g.Do(virtiotest.SetMemTable, table, g.FD, g.FD)
	want := random(1 << 20)
	go func() { s.Write(want); s.shutdown(shutSend) }()
	if b, err := io.ReadAll(c); !bytes.Equal(b, want) || err != nil {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	// Disabling a ring is a pause, not a reset.
	g.Do(virtiotest.SetVringEnable, virtiotest.Words32(1, 0))
	g.Do(virtiotest.SetVringEnable, virtiotest.Words32(1, 1))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// Persistent memory is backed by a file that QEMU opened read-only. A guest that
// has the device receive into it must not change the file.
func TestReadOnlyMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "layer")
	if err := os.WriteFile(path, bytes.Repeat([]byte("layer"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	ro, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	const at = 1 << 41
	add := virtiotest.Words64(0, at, 4<<20, 1<<46, 0)

	t.Run("receive buffers", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		g.Do(virtiotest.AddMemReg, add, ro)
		c, _ := connect(t, d, g, 1)
		for _, s := range g.rxSlots { // descriptors of buffers that are posted already
			g.Describe(g.rx.Desc, int(s.head), virtiotest.Desc(at, headerLen+4096, virtiotest.DescWrite, 0))
		}
		c.Write([]byte("poison"))
		ends(t, d, "read-only")
	})
	t.Run("rings", func(t *testing.T) {
		_, f := attach(t)
		g := newGuest(f, guestConfig{})
		g.Handshake()
		g.Do(virtiotest.AddMemReg, add, ro)
		g.Do(virtiotest.SetVringNum, virtiotest.Words32(0, 64))
		if err := g.Try(virtiotest.SetVringAddr, append(virtiotest.Words32(0, 0), virtiotest.Words64(1<<46, 1<<46+8192, 1<<46+4096, 0)...)); err != virtiotest.ErrRefused {
			t.Errorf("got %v, want a refusal", err)
		}
	})
	t.Run("packets may lie in it", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		g.Do(virtiotest.AddMemReg, add, ro)
		c, s := connect(t, d, g, 1)
		g.mu.Lock()
		h := s.header(opData)
		g.mu.Unlock()
		for _, sl := range g.txSlots {
			g.Describe(g.tx.Desc, int(sl.head)+1, virtiotest.Desc(at, 5, 0, 0))
		}
		g.transmit(h, []byte("dummy"))
		b := make([]byte, 5)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "layer" {
			t.Errorf("got %q, %v", b, err)
		}
	})
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file has changed")
	}
}

// A file that is cut while it is mapped must not kill the process.
func TestTruncatedMemory(t *testing.T) {
	t.Run("receive ring", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		c, _ := connect(t, d, g, 1)
		g.cut()
		if _, err := c.Write(random(100)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want ECONNRESET", err)
		}
		ends(t, d, "guest memory")
	})
	t.Run("transmit ring", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		connect(t, d, g, 1)
		g.cut()
		g.tx.DoKick()
		ends(t, d, "guest memory")
	})
	t.Run("payload", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		c, s := connect(t, d, g, 1)
		extra := virtiotest.Memfd(t, 1<<20)
		g.Do(virtiotest.AddMemReg, virtiotest.Words64(0, 1<<40, 1<<20, 1<<45, 0), extra)
		extra.Truncate(0)
		for _, sl := range g.txSlots {
			g.Describe(g.tx.Desc, int(sl.head)+1, virtiotest.Desc(1<<40, 100, 0, 0))
		}
		g.mu.Lock()
		h := s.header(opData)
		g.mu.Unlock()
		g.transmit(h, make([]byte, 100))
		ends(t, d, "guest memory")
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("got %v, want ECONNRESET", err)
		}
	})
}

// cut truncates the guest's memory; the driver has no business with it then.
func (g *guest) cut() {
	g.setHold(true)
	g.T.Cleanup(func() { g.setHold(false) })
	g.mu.Lock()
	g.mute = true
	g.mu.Unlock()
	g.FD.Truncate(0)
}

func TestBrokenRings(t *testing.T) {
	const far = 1 << 50
	cases := map[string]struct {
		do   func(g *guest, q *virtiotest.Queue)
		want string
	}{
		"writable packet": {func(g *guest, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 44, virtiotest.DescNext, 1))
			g.Describe(q.Desc, 1, virtiotest.Desc(virtiotest.GuestBase, 44, virtiotest.DescWrite, 0))
			q.Offer(0)
		}, "is writable"},
		"short header": {func(g *guest, q *virtiotest.Queue) {
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase, 43, 0, 0))
			q.Offer(0)
		}, "shorter"},
		"payload shorter than its length": {func(g *guest, q *virtiotest.Queue) {
			h := header{srcCID: 3, dstCID: 2, typ: 1, op: opData, length: 100}
			var b [headerLen]byte
			h.encode(&b)
			o := g.Frontend.Alloc(64)
			copy(g.Mem[o:], b[:])
			g.Describe(q.Desc, 0, virtiotest.Desc(virtiotest.GuestBase+o, headerLen+20, 0, 0))
			q.Offer(0)
		}, "shorter"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d, g := boot(t, guestConfig{indirect: true})
			c.do(g, g.tx)
			ends(t, d, c.want)
		})
	}
	for name, desc := range map[string]virtiotest.Descriptor{
		"receive buffer readable":       virtiotest.Desc(virtiotest.GuestBase, 4096, 0, 0),
		"receive buffer too small":      virtiotest.Desc(virtiotest.GuestBase, headerLen-1, virtiotest.DescWrite, 0),
		"receive buffer without memory": virtiotest.Desc(far, 4096, virtiotest.DescWrite, 0),
		"receive buffer for no payload": virtiotest.Desc(virtiotest.GuestBase+virtiotest.GuestSize-headerLen, headerLen, virtiotest.DescWrite, 0),
	} {
		t.Run(name, func(t *testing.T) {
			d, g := boot(t, guestConfig{})
			c, _ := connect(t, d, g, 1)
			for _, s := range g.rxSlots {
				g.Describe(g.rx.Desc, int(s.head), desc)
			}
			if _, err := c.Write(random(10)); err == nil {
				t.Error("written")
			}
			ends(t, d, "")
		})
	}
}

// Violations that belong to a connection reset that one only.
func TestBrokenPackets(t *testing.T) {
	cases := map[string]func(g *guest, s *sock, h header){
		"unknown operation":        func(g *guest, s *sock, h header) { h.op = 99; g.transmit(h, nil) },
		"operation 0":              func(g *guest, s *sock, h header) { h.op = 0; g.transmit(h, nil) },
		"second request":           func(g *guest, s *sock, h header) { h.op = opRequest; g.transmit(h, nil) },
		"response to nothing":      func(g *guest, s *sock, h header) { h.op = opResponse; g.transmit(h, nil) },
		"data after the end":       func(g *guest, s *sock, h header) { s.shutdown(shutSend); h.op = opData; g.transmit(h, []byte("x")) },
		"more taken than was sent": func(g *guest, s *sock, h header) { h.op = opCreditUpdate; h.fwdCnt = 1; g.transmit(h, nil) },
		"more than its credit": func(g *guest, s *sock, h header) {
			h.op = opData
			for range bufAlloc/txSize + 1 {
				g.transmit(h, make([]byte, txSize))
			}
		},
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			d, g := boot(t, guestConfig{})
			c, s := connect(t, d, g, 1)
			other, so := connect(t, d, g, 2)
			g.mu.Lock()
			h := s.header(0)
			g.mu.Unlock()
			f(g, s, h)
			r := g.await(func(h header) bool { return h.op == opReset })
			if r.srcPort != 1 || r.dstPort != 10001 {
				t.Errorf("reset of %+v", r)
			}
			io.Copy(io.Discard, c)
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("got %v, want ECONNRESET", err)
			}
			go so.Write([]byte("fine"))
			if _, err := io.ReadFull(other, make([]byte, 4)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("without a connection", func(t *testing.T) {
		_, g := boot(t, guestConfig{})
		g.mute = true
		send := func(f func(h *header)) header {
			h := header{srcCID: 3, dstCID: 2, srcPort: 5, dstPort: 6, typ: typeStream, op: opData}
			f(&h)
			g.transmit(h, nil)
			return h
		}
		// No answer: from elsewhere, and to a reset.
		send(func(h *header) { h.srcCID = 4 })
		send(func(h *header) { h.op = opReset })
		for i, f := range []func(h *header){
			func(h *header) {},
			func(h *header) { h.typ = 2; h.op = opRequest },
			func(h *header) { h.op = opShutdown; h.flags = 0xffffffff },
			func(h *header) { h.dstCID = 1 << 32 }, // 64 bits wide
			func(h *header) { h.srcPort = 0xffffffff; h.op = opRequest },
		} {
			h := send(f)
			g.mu.Lock()
			for len(g.seen) <= i {
				g.cond.Wait()
			}
			r := g.seen[i]
			g.mu.Unlock()
			if r != (header{srcCID: h.dstCID, dstCID: 3, srcPort: 6, dstPort: h.srcPort, typ: h.typ, op: opReset}) {
				t.Errorf("got %+v to %+v", r, h)
			}
		}
	})
}

// A guest that sends and never receives makes the host keep little, and its
// packets are still taken.
func TestAnswersBounded(t *testing.T) {
	d, g := boot(t, guestConfig{})
	listen(t, d, 1)
	c, s := connect(t, d, g, 2)
	g.setHold(true)
	for i := range uint32(3 * maxResets) {
		h := header{srcCID: 3, dstCID: 2, srcPort: i + 10, dstPort: 99, typ: typeStream, op: opRequest}
		g.transmit(h, nil)
		h.dstPort = 1
		g.transmit(h, nil)
		g.mu.Lock()
		h = s.header(opCreditRequest)
		g.mu.Unlock()
		g.transmit(h, nil)
	}
	go s.Write([]byte("through"))
	if _, err := io.ReadFull(c, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	d.rx.Lock()
	if n := len(d.rx.resets); n > maxResets {
		t.Errorf("%d resets wait", n)
	}
	if n := len(d.rx.control); n > maxBacklog+1 {
		t.Errorf("%d connections wait", n)
	}
	d.rx.Unlock()
	d.Close()
	g.setHold(false)
}

// A guest whose ring is never empty does not keep QEMU's messages out.
func TestBusyGuest(t *testing.T) {
	d, g := boot(t, guestConfig{num: 128, indirect: true, rxSize: 100})
	stop := make(chan struct{})
	g.wg.Go(func() {
		h := header{srcCID: 9, dstCID: 2, typ: typeStream, op: opData}
		for {
			select {
			case <-stop:
				return
			default:
				g.transmit(h, nil)
			}
		}
	})
	for range 20 {
		g.Ask(virtiotest.GetFeatures, nil)
		g.Do(virtiotest.SetVringEnable, virtiotest.Words32(0, 1))
	}
	g.Sock.Close()
	ends(t, d, "EOF")
	close(stop)
	g.tx.Call.Close()
}

func TestNoLeaks(t *testing.T) {
	fds := func() int {
		e, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(e)
	}
	maps := func() int {
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(b, []byte("memfd:guest"))
	}
	run := func(t *testing.T) {
		d, g := boot(t, guestConfig{events: true})
		l := listen(t, d, 1)
		for i := range uint32(10) {
			if _, err := g.dial(1, i+1); err != nil {
				t.Fatal(err)
			}
			c := accept(t, l)
			c.SetDeadline(time.Now().Add(time.Hour))
			if i%2 == 0 {
				c.Close()
			}
		}
		g.Do(virtiotest.SetVringKick, virtiotest.Words64(0), virtiotest.Eventfd(t)) // replaced
		g.Do(virtiotest.SetVringCall, virtiotest.Words64(0x100))
		g.Do(virtiotest.SetVringErr, virtiotest.Words64(1), virtiotest.Eventfd(t))
	}
	t.Run("first", run)
	runtime.GC()
	f, m, n := fds(), maps(), runtime.NumGoroutine()
	for range 5 {
		t.Run("again", run)
	}
	eventually(t, func() error {
		runtime.GC()
		if f2, m2, n2 := fds(), maps(), runtime.NumGoroutine(); f2 > f || m2 > m || n2 > n {
			return errors.New("leak")
		}
		return nil
	})
}
