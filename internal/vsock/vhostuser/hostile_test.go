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
				g.sock.Close()
				ends(t, d, io.EOF.Error())
				if d.Err() != io.EOF {
					t.Errorf("got %v, want EOF", d.Err())
				}
			case "closed":
				d.Close()
				d.Close()
				want = net.ErrClosed
			case "driver stopped":
				g.rx.stop()
				g.tx.stop()
			case "guest broken":
				// After everything else: the ring is taken in order.
				g.txMu.Lock()
				g.tx.offer(g.num)
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
	d.tx.mu.Lock() // so that nothing is taken before QEMU is gone
	s.Write([]byte("power off"))
	s.shutdown(shutBoth)
	n := (&sock{g: g, key: key{3, 4}}).header(opRequest)
	g.transmit(n, nil)
	n.op = opData
	g.transmit(n, []byte("boo"))
	g.sock.Close()
	d.tx.mu.Unlock()
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
		if g.rx.stop() != g.rx.usedIdx && g.rx.stop() == 0 {
			t.Error("the ring's position is wrong")
		}
		g.tx.stop()
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
	g.rx.call.Close()
	g.wg.Wait()
	for _, q := range []*queue{g.rx, g.tx} {
		clear(g.mem[q.avail : q.avail+6+2*uint64(q.num)])
		clear(g.mem[q.used : q.used+6+8*uint64(q.num)])
		q.availIdx, q.usedIdx = 0, 0
		q.kick, q.call = eventfd(t), eventfd(t)
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
	extra := memfd(t, 2<<20)
	for i := range uint64(120) {
		g.do(reqAddMemReg, words64(0, 1<<40+i<<21, 2<<20, 1<<45+i<<21, 0), extra)
	}
	go s.Write([]byte("one"))
	if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(120) {
		g.do(reqRemMemReg, words64(0, 1<<40+i<<21, 2<<20, 1<<45+i<<21, 0))
	}
	whole := words64(0, guestBase, guestSize, userBase, 0)
	g.do(reqRemMemReg, whole)
	s.Write([]byte("two")) // nobody looks
	g.do(reqAddMemReg, whole, g.fd)
	if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	// The old way: the whole table at once.
	table := append(words32(2, 0), words64(guestBase, guestSize/2, userBase, 0, guestBase+guestSize/2, guestSize/2, userBase+guestSize/2, guestSize/2)...)
	g.do(reqSetMemTable, table, g.fd, g.fd)
	want := random(1 << 20)
	go func() { s.Write(want); s.shutdown(shutSend) }()
	if b, err := io.ReadAll(c); !bytes.Equal(b, want) || err != nil {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	// Disabling a ring is a pause, not a reset.
	g.do(reqSetVringEnable, words32(1, 0))
	g.do(reqSetVringEnable, words32(1, 1))
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
	add := words64(0, at, 4<<20, 1<<46, 0)

	t.Run("receive buffers", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		g.do(reqAddMemReg, add, ro)
		c, _ := connect(t, d, g, 1)
		for _, s := range g.rxSlots { // descriptors of buffers that are posted already
			g.describe(g.rx.desc, int(s.head), descriptor{at, headerLen + 4096, descWrite, 0})
		}
		c.Write([]byte("poison"))
		ends(t, d, "read-only")
	})
	t.Run("rings", func(t *testing.T) {
		_, f := attach(t)
		g := newGuest(f, guestConfig{})
		g.handshake()
		g.do(reqAddMemReg, add, ro)
		g.do(reqSetVringNum, words32(0, 64))
		if err := g.try(reqSetVringAddr, append(words32(0, 0), words64(1<<46, 1<<46+8192, 1<<46+4096, 0)...)); err != errRefused {
			t.Errorf("got %v, want a refusal", err)
		}
	})
	t.Run("packets may lie in it", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		g.do(reqAddMemReg, add, ro)
		c, s := connect(t, d, g, 1)
		g.mu.Lock()
		h := s.header(opData)
		g.mu.Unlock()
		for _, sl := range g.txSlots {
			g.describe(g.tx.desc, int(sl.head)+1, descriptor{at, 5, 0, 0})
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
		g.tx.kick.Write(one)
		ends(t, d, "guest memory")
	})
	t.Run("payload", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		c, s := connect(t, d, g, 1)
		extra := memfd(t, 1<<20)
		g.do(reqAddMemReg, words64(0, 1<<40, 1<<20, 1<<45, 0), extra)
		extra.Truncate(0)
		for _, sl := range g.txSlots {
			g.describe(g.tx.desc, int(sl.head)+1, descriptor{1 << 40, 100, 0, 0})
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
	g.t.Cleanup(func() { g.setHold(false) })
	g.mu.Lock()
	g.mute = true
	g.mu.Unlock()
	g.fd.Truncate(0)
}

func TestBrokenRings(t *testing.T) {
	const far = 1 << 50
	cases := map[string]struct {
		do   func(g *guest, q *queue)
		want string
	}{
		"head out of range": {func(g *guest, q *queue) { q.offer(q.num) }, "index out of range"},
		"index runs away": {func(g *guest, q *queue) {
			q.availIdx += q.num + 1
			q.offer()
			q.kick.Write(one)
		}, "available index"},
		"next out of range": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase, 44, descNext, 0xffff})
			q.offer(0)
		}, "index out of range"},
		"loop": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase, 1, descNext, 0})
			q.offer(0)
		}, "chain too long"},
		"no such memory": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{far, 44, 0, 0})
			q.offer(0)
		}, "no such memory"},
		"beyond the end": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase + guestSize - 10, 44, 0, 0})
			q.offer(0)
		}, "no such memory"},
		"address overflow": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{^uint64(0) - 3, 44, 0, 0})
			q.offer(0)
		}, "no such memory"},
		"empty descriptor": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase, 0, 0, 0})
			q.offer(0)
		}, "empty descriptor"},
		"readable after writable": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase, 44, descWrite | descNext, 1})
			g.describe(q.desc, 1, descriptor{guestBase, 44, 0, 0})
			q.offer(0)
		}, "after a writable"},
		"writable packet": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase, 44, descNext, 1})
			g.describe(q.desc, 1, descriptor{guestBase, 44, descWrite, 0})
			q.offer(0)
		}, "is writable"},
		"short header": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase, 43, 0, 0})
			q.offer(0)
		}, "shorter"},
		"payload shorter than its length": {func(g *guest, q *queue) {
			h := header{srcCID: 3, dstCID: 2, typ: 1, op: opData, length: 100}
			var b [headerLen]byte
			h.encode(&b)
			o := g.frontend.alloc(64)
			copy(g.mem[o:], b[:])
			g.describe(q.desc, 0, descriptor{guestBase + o, headerLen + 20, 0, 0})
			q.offer(0)
		}, "shorter"},
		"nested indirect": {func(g *guest, q *queue) {
			o := g.frontend.alloc(64)
			g.describe(o, 0, descriptor{guestBase + o, 16, descIndirect, 0})
			g.describe(q.desc, 0, descriptor{guestBase + o, 16, descIndirect, 0})
			q.offer(0)
		}, "indirect"},
		"indirect with next": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase, 16, descIndirect | descNext, 1})
			q.offer(0)
		}, "indirect"},
		"indirect of odd size": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase, 17, descIndirect, 0})
			q.offer(0)
		}, "indirect"},
		"indirect too large": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase, 16 * (maxTable + 1), descIndirect, 0})
			q.offer(0)
		}, "indirect"},
		"indirect outside": {func(g *guest, q *queue) {
			g.describe(q.desc, 0, descriptor{guestBase + guestSize - 16, 32, descIndirect, 0})
			q.offer(0)
		}, "indirect"},
		"indirect next out of range": {func(g *guest, q *queue) {
			o := g.frontend.alloc(64)
			g.describe(o, 0, descriptor{guestBase, 44, descNext, 1})
			g.describe(q.desc, 0, descriptor{guestBase + o, 16, descIndirect, 0})
			q.offer(0)
		}, "index out of range"},
		"indirect loop": {func(g *guest, q *queue) {
			o := g.frontend.alloc(64)
			g.describe(o, 0, descriptor{guestBase, 44, descNext, 0})
			g.describe(q.desc, 0, descriptor{guestBase + o, 16, descIndirect, 0})
			q.offer(0)
		}, "chain too long"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d, g := boot(t, guestConfig{indirect: true})
			c.do(g, g.tx)
			ends(t, d, c.want)
		})
	}
	t.Run("indirect not negotiated", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		g.describe(g.tx.desc, 0, descriptor{guestBase, 16, descIndirect, 0})
		g.tx.offer(0)
		ends(t, d, "indirect")
	})
	for name, desc := range map[string]descriptor{
		"receive buffer readable":       {guestBase, 4096, 0, 0},
		"receive buffer too small":      {guestBase, headerLen - 1, descWrite, 0},
		"receive buffer without memory": {far, 4096, descWrite, 0},
		"receive buffer for no payload": {guestBase + guestSize - headerLen, headerLen, descWrite, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d, g := boot(t, guestConfig{})
			c, _ := connect(t, d, g, 1)
			for _, s := range g.rxSlots {
				g.describe(g.rx.desc, int(s.head), desc)
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
	d.rx.mu.Lock()
	if n := len(d.rx.resets); n > maxResets {
		t.Errorf("%d resets wait", n)
	}
	if n := len(d.rx.control); n > maxBacklog+1 {
		t.Errorf("%d connections wait", n)
	}
	d.rx.mu.Unlock()
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
		g.ask(reqGetFeatures, nil)
		g.do(reqSetVringEnable, words32(0, 1))
	}
	g.sock.Close()
	ends(t, d, "EOF")
	close(stop)
	g.tx.call.Close()
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
		g.do(reqSetVringKick, words64(0), eventfd(t)) // replaced
		g.do(reqSetVringCall, words64(0x100))
		g.do(reqSetVringErr, words64(1), eventfd(t))
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
