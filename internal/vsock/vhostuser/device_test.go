//go:build linux

package vhostuser

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/byrevm/byre/internal/virtio/virtiotest"
	"github.com/byrevm/byre/internal/vsock"
)

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func listen(t testing.TB, d *Device, port uint32) net.Listener {
	t.Helper()
	l, err := d.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func accept(t testing.TB, l net.Listener) *Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Conn)
}

// connect makes a connection that the guest opens.
func connect(t testing.TB, d *Device, g *guest, port uint32) (*Conn, *sock) {
	t.Helper()
	l := listen(t, d, port)
	defer l.Close()
	s, err := g.dial(port, port+10000)
	if err != nil {
		t.Fatal(err)
	}
	return accept(t, l), s
}

// dialed makes a connection that the host opens.
func dialed(t testing.TB, d *Device, g *guest, port uint32) (*Conn, *sock) {
	t.Helper()
	q := g.listen(port)
	c, err := d.Dial(t.Context(), port)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Conn), <-q
}

var guests = map[string]guestConfig{
	"plain":           {},
	"events":          {events: true},
	"indirect":        {indirect: true},
	"events indirect": {events: true, indirect: true},
	"small ring":      {events: true, num: 4},
	"small buffers":   {events: true, indirect: true, rxSize: headerLen + 1, num: 32},
	"small credit":    {events: true, alloc: 100},
}

func TestStreams(t *testing.T) {
	for name, c := range guests {
		t.Run(name, func(t *testing.T) {
			size := 1 << 20
			if c.rxSize == headerLen+1 || c.alloc == 100 {
				size = 50000
			}
			want := random(size)
			for _, from := range []string{"guest", "host"} {
				t.Run("opened by "+from, func(t *testing.T) {
					d, g := boot(t, c)
					open := connect
					if from == "host" {
						open = dialed
					}
					h, s := open(t, d, g, 1024)
					var wg sync.WaitGroup
					var got [2][]byte
					var errs [4]error
					wg.Go(func() {
						_, errs[0] = h.Write(want)
						errs[0] = errors.Join(errs[0], h.CloseWrite())
					})
					wg.Go(func() { got[0], errs[1] = io.ReadAll(h) })
					wg.Go(func() { _, errs[2] = s.Write(want); s.shutdown(shutSend) })
					wg.Go(func() { got[1], errs[3] = io.ReadAll(s) })
					wg.Wait()
					if err := errors.Join(errs[:]...); err != nil {
						t.Fatal(err)
					}
					for i, who := range []string{"host", "guest"} {
						if !bytes.Equal(got[i], want) {
							t.Errorf("%s got %d bytes, not the %d sent", who, len(got[i]), len(want))
						}
					}
					if err := h.Close(); err != nil {
						t.Fatal(err)
					}
					g.await(func(h header) bool { return h.op == opShutdown && h.flags == shutBoth })
					settled(t, d)
				})
			}
		})
	}
}

// settled waits until the device has no connections.
func settled(t testing.TB, d *Device) {
	t.Helper()
	eventually(t, func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if n := len(d.conns); n > 0 {
			return fmt.Errorf("%d connections left", n)
		}
		return nil
	})
}

// eventually polls for what has no event to wait for.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatal(err)
		}
	}
}

func TestAddresses(t *testing.T) {
	d, g := boot(t, guestConfig{})
	c, _ := connect(t, d, g, 7)
	if got, want := c.LocalAddr(), (vsock.Addr{CID: 2, Port: 7}); got != want {
		t.Errorf("local: got %v, want %v", got, want)
	}
	if got, want := c.RemoteAddr(), (vsock.Addr{CID: 3, Port: 10007}); got != want {
		t.Errorf("remote: got %v, want %v", got, want)
	}
	l := listen(t, d, 8)
	if got, want := l.Addr(), (vsock.Addr{CID: 2, Port: 8}); got != want {
		t.Errorf("listener: got %v, want %v", got, want)
	}
}

func TestManyStreams(t *testing.T) {
	d, g := boot(t, guestConfig{events: true, indirect: true})
	l := listen(t, d, 5)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	want := random(70000)
	var wg sync.WaitGroup
	room := make(chan struct{}, maxBacklog)
	for i := range uint32(200) {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			s, err := g.dial(5, 2000+i)
			if err != nil {
				t.Error(err)
				return
			}
			var w sync.WaitGroup
			w.Go(func() { s.Write(want); s.shutdown(shutSend) })
			got, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("stream %d: %d bytes, %v", i, len(got), err)
			}
			w.Wait()
		})
	}
	wg.Wait()
	settled(t, d)
}

func TestBigTransfer(t *testing.T) {
	size := 64 << 20
	if testing.Short() {
		size = 8 << 20
	}
	d, g := boot(t, guestConfig{events: true, indirect: true, num: 128})
	h, s := connect(t, d, g, 1)
	want := random(1 << 20)
	sum := sha256.New()
	for range size >> 20 {
		sum.Write(want)
	}
	send := func(w io.Writer) {
		for range size >> 20 {
			if _, err := w.Write(want); err != nil {
				t.Error(err)
				return
			}
		}
	}
	check := func(who string, r io.Reader) {
		got := sha256.New()
		n, err := io.Copy(got, r)
		if err != nil || n != int64(size) || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
			t.Errorf("%s: %d bytes of %d, %v, sum %x", who, n, size, err, got.Sum(nil)[:4])
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { send(h); h.CloseWrite() })
	wg.Go(func() { send(s); s.shutdown(shutSend) })
	wg.Go(func() { check("guest", s) })
	wg.Go(func() { check("host", h) })
	wg.Wait()
}

// A program that does not read stops its own stream only.
func TestSlowReader(t *testing.T) {
	d, g := boot(t, guestConfig{events: true, indirect: true})
	slowH, slowS := connect(t, d, g, 1)
	fastH, fastS := connect(t, d, g, 2)
	data := random(2 << 20)

	var stuck sync.WaitGroup
	stuck.Go(func() { slowH.Write(data) })
	stuck.Go(func() { slowS.Write(data) })
	eventually(t, func() error {
		slowH.mu.Lock()
		defer slowH.mu.Unlock()
		if slowH.in.n < bufAlloc || slowH.credit() > 0 {
			return errors.New("the slow stream is not full")
		}
		return nil
	})

	var wg sync.WaitGroup
	wg.Go(func() { fastH.Write(data); fastH.CloseWrite() })
	wg.Go(func() { fastS.Write(data); fastS.shutdown(shutSend) })
	for _, r := range []io.Reader{fastH, fastS} {
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	wg.Wait()

	// And it goes on when read.
	wg.Go(func() {
		b := make([]byte, len(data))
		if _, err := io.ReadFull(slowS, b); err != nil || !bytes.Equal(b, data) {
			t.Error("guest:", err)
		}
	})
	b := make([]byte, len(data))
	if _, err := io.ReadFull(slowH, b); err != nil || !bytes.Equal(b, data) {
		t.Error("host:", err)
	}
	wg.Wait()
	stuck.Wait()
}

func TestRefusals(t *testing.T) {
	d, g := boot(t, guestConfig{})
	t.Run("host dials a closed port", func(t *testing.T) {
		_, err := d.Dial(t.Context(), 99)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want ECONNREFUSED", err)
		}
	})
	t.Run("host dials no port", func(t *testing.T) {
		if _, err := d.Dial(t.Context(), vsock.PortAny); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("got %v, want EADDRNOTAVAIL", err)
		}
	})
	t.Run("guest dials a closed port", func(t *testing.T) {
		if _, err := g.dial(99, 1); err != errReset {
			t.Errorf("got %v, want a reset", err)
		}
	})
	t.Run("port in use", func(t *testing.T) {
		l := listen(t, d, 5)
		if _, err := d.Listen(5); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("got %v, want EADDRINUSE", err)
		}
		l.Close()
		l.Close()
		listen(t, d, 5).Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
	t.Run("no port", func(t *testing.T) {
		if _, err := d.Listen(vsock.PortAny); err == nil {
			t.Error("listening on no port")
		}
	})
	t.Run("backlog", func(t *testing.T) {
		l := listen(t, d, 6)
		var socks []*sock
		for i := range uint32(maxBacklog) {
			s, err := g.dial(6, 1000+i)
			if err != nil {
				t.Fatal(i, err)
			}
			socks = append(socks, s)
		}
		if _, err := g.dial(6, 1); err != errReset {
			t.Errorf("got %v, want a reset", err)
		}
		accept(t, l).Close()
		if _, err := g.dial(6, 2); err != nil {
			t.Error(err)
		}
		l.Close() // resets what was not accepted
		for _, s := range socks[1:] {
			if _, err := s.Read(make([]byte, 1)); err != errReset {
				t.Fatalf("got %v, want a reset", err)
			}
		}
		settled(t, d)
	})
	t.Run("table full", func(t *testing.T) {
		l := listen(t, d, 6)
		defer l.Close()
		var conns []net.Conn
		for i := range uint32(maxConns) {
			if _, err := g.dial(6, 1000+i); err != nil {
				t.Fatal(i, err)
			}
			conns = append(conns, accept(t, l))
		}
		if _, err := g.dial(6, 1); err != errReset {
			t.Errorf("got %v, want a reset", err)
		}
		if _, err := d.Dial(t.Context(), 1); !errors.Is(err, syscall.ENOBUFS) {
			t.Errorf("got %v, want ENOBUFS", err)
		}
		for _, c := range conns {
			c.Close()
		}
		settled(t, d)
	})
}

func TestDialWaits(t *testing.T) {
	d, f := attach(t)
	g := newGuest(f, guestConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { _, err := d.Dial(ctx, 5); first <- err }()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	second := make(chan error, 1)
	go func() {
		c, err := d.Dial(t.Context(), 5)
		if err == nil {
			_, err = c.Write([]byte("x"))
		}
		second <- err
	}()
	g.listen(5)
	g.Handshake()
	g.AddMemory()
	g.start()
	defer func() { d.Close(); g.rx.Call.Close(); g.wg.Wait() }()
	if err := <-second; err != nil {
		t.Error(err)
	}

	g.mu.Lock()
	g.mute = true
	g.mu.Unlock()
	ctx, cancel = context.WithCancel(t.Context())
	go func() { _, err := d.Dial(ctx, 6); first <- err }()
	req := g.await(func(h header) bool { return h.op == opRequest && h.dstPort == 6 })
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	g.await(func(h header) bool { return h.op == opReset && h.srcPort == req.srcPort })

	go func() { _, err := d.Dial(t.Context(), 7); first <- err }()
	g.await(func(h header) bool { return h.op == opRequest && h.dstPort == 7 })
	d.Close()
	if err := <-first; !errors.Is(err, net.ErrClosed) || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want ErrClosed and ECONNRESET", err)
	}
	if _, err := d.Dial(t.Context(), 5); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if _, err := d.Listen(5); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestHalfClose(t *testing.T) {
	t.Run("guest ends sending", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		c, s := connect(t, d, g, 1)
		s.Write([]byte("question"))
		s.shutdown(shutSend)
		if b, err := io.ReadAll(c); string(b) != "question" || err != nil {
			t.Fatalf("got %q, %v", b, err)
		}
		c.Write([]byte("answer"))
		c.Close()
		if b, err := io.ReadAll(s); string(b) != "answer" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
		settled(t, d)
	})
	t.Run("guest ends receiving", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		c, s := connect(t, d, g, 1)
		wrote := make(chan error)
		go func() {
			_, err := c.Write(random(1 << 20)) // more than the guest's buffer
			wrote <- err
		}()
		s.shutdown(shutRecv)
		if err := <-wrote; !errors.Is(err, syscall.EPIPE) {
			t.Errorf("got %v, want EPIPE", err)
		}
		s.Write([]byte("still"))
		s.shutdown(shutSend)
		if b, err := io.ReadAll(c); string(b) != "still" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
		g.await(func(h header) bool { return h.op == opReset })
		settled(t, d)
	})
	t.Run("host ends receiving", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		c, s := connect(t, d, g, 1)
		s.Write([]byte("unread"))
		read := make(chan error)
		c.Read(make([]byte, 1))
		go func() { _, err := io.Copy(io.Discard, c); read <- err }()
		c.CloseRead()
		c.CloseRead()
		if err := <-read; err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v, want EOF", err)
		}
		g.await(func(h header) bool { return h.op == opShutdown && h.flags == shutRecv })
		if _, err := s.Write([]byte("x")); err != errReset {
			t.Errorf("got %v, want an error", err)
		}
		c.Write([]byte("more"))
		c.CloseWrite()
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("got %v, want EPIPE", err)
		}
		if b, err := io.ReadAll(s); string(b) != "more" || err != nil {
			t.Errorf("got %q, %v", b, err)
		}
		c.Close()
		settled(t, d)
	})
}

func TestClose(t *testing.T) {
	t.Run("delivers what was written", func(t *testing.T) {
		d, g := boot(t, guestConfig{events: true})
		c, s := connect(t, d, g, 1)
		want := random(200 << 10)
		if n, err := c.Write(want); n != len(want) || err != nil {
			t.Fatal(n, err)
		}
		c.Close()
		c.Close()
		if b, err := io.ReadAll(s); !bytes.Equal(b, want) || err != nil {
			t.Errorf("got %d bytes, %v", len(b), err)
		}
		for _, err := range []error{second(c.Read(make([]byte, 1))), second(c.Write([]byte("x"))), c.CloseWrite(), c.CloseRead()} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		}
	})
	t.Run("wakes readers and writers", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		c, _ := connect(t, d, g, 1)
		errs := make(chan error)
		go func() { errs <- second(c.Read(make([]byte, 1))) }()
		go func() { errs <- second(c.Write(random(1 << 20))) }()
		eventually(t, c.stuck)
		c.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		}
		// The end of the stream comes after the data of the write cut short.
		g.await(func(h header) bool { return h.op == opShutdown && h.flags == shutBoth })
		g.mu.Lock()
		if last := g.seen[len(g.seen)-1]; last.op == opData {
			t.Error("data after the end of the stream")
		}
		g.mu.Unlock()
	})
	t.Run("resets a guest that does not let go", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		d.lingerTime = 20 * time.Millisecond
		c, _ := connect(t, d, g, 1)
		g.mu.Lock()
		g.mute = true
		g.mu.Unlock()
		c.Close()
		g.await(func(h header) bool { return h.op == opReset })
		settled(t, d)
	})
	t.Run("with no room for the shutdown", func(t *testing.T) {
		d, g := boot(t, guestConfig{})
		d.lingerTime = 20 * time.Millisecond
		c, _ := connect(t, d, g, 1)
		g.setHold(true)
		go c.Write(random(1 << 20))
		eventually(t, func() error {
			d.rx.Lock()
			defer d.rx.Unlock()
			if len(d.rx.writers) == 0 {
				return errors.New("not full")
			}
			return nil
		})
		c.Close()
		settled(t, d)
		g.setHold(false)
		g.await(func(h header) bool { return h.op == opReset })
	})
}

// stuck reports whether the guest's buffer is full.
func (c *Conn) stuck() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peerAlloc == 0 || c.credit() > 0 {
		return errors.New("the writer is not stuck")
	}
	return nil
}

func second(_ int, err error) error { return err }

func (g *guest) setHold(on bool) {
	g.mu.Lock()
	g.hold = on
	g.cond.Broadcast()
	g.mu.Unlock()
}

func TestReset(t *testing.T) {
	d, g := boot(t, guestConfig{})
	c, s := connect(t, d, g, 1)
	s.Write([]byte("last words"))
	wrote := make(chan error)
	go func() { wrote <- second(c.Write(random(1 << 20))) }()
	s.abort()
	if err := <-wrote; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want ECONNRESET", err)
	}
	b, err := io.ReadAll(c)
	if string(b) != "last words" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v", b, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	settled(t, d)
}

func TestDeadlines(t *testing.T) {
	d, g := boot(t, guestConfig{})
	c, s := connect(t, d, g, 1)
	timeout := func(err error) {
		t.Helper()
		var ne net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("got %v, want a timeout", err)
		}
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	timeout(second(c.Read(make([]byte, 1))))
	c.SetDeadline(time.Now().Add(-time.Second))
	s.Write([]byte("x"))
	timeout(second(c.Read(make([]byte, 1))))
	timeout(second(c.Write([]byte("x"))))
	c.SetDeadline(time.Time{})
	if err := second(c.Read(make([]byte, 1))); err != nil {
		t.Error(err)
	}
	want := random(1 << 20)
	go func() {
		eventually(t, c.stuck)
		c.SetWriteDeadline(time.Now().Add(time.Millisecond))
	}()
	n, err := c.Write(want)
	timeout(err)
	if n != 256<<10 {
		t.Errorf("%d bytes written, want the guest's credit", n)
	}
	// Exactly those arrive, and the stream goes on after them.
	c.SetWriteDeadline(time.Time{})
	go func() { c.Write(want[n:]); c.Close() }()
	if b, err := io.ReadAll(s); !bytes.Equal(b, want) || err != nil {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	// A deadline that is moved while it runs out does not strike.
	c2, _ := connect(t, d, g, 2)
	for range 100 {
		c2.SetReadDeadline(time.Now().Add(time.Microsecond))
		c2.SetReadDeadline(time.Time{})
	}
	c2.mu.Lock()
	if c2.rdl.expired {
		t.Error("expired")
	}
	c2.mu.Unlock()
}

// QEMU notices the end of the device although somebody, who was started at the
// wrong moment, has a copy of the socket.
func TestCopiedSocket(t *testing.T) {
	a, b := virtiotest.Pair(t)
	defer b.Close()
	f, err := a.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	New(a, Config{}).Close()
	if n, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %d, %v, want EOF", n, err)
	}
}

func TestWriteTo(t *testing.T) {
	d, g := boot(t, guestConfig{})
	c, s := connect(t, d, g, 1)
	want := random(1 << 20)
	go func() { s.Write(want); s.shutdown(shutSend) }()
	var b bytes.Buffer
	if n, err := c.WriteTo(&b); n != int64(len(want)) || err != nil || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%d bytes, %v", n, err)
	}
	c, s = connect(t, d, g, 2)
	s.Write([]byte("abc"))
	s.abort()
	broken := errors.New("broken")
	n, err := c.WriteTo(writerFunc(func(p []byte) (int, error) { return 1, broken }))
	if n != 1 || err != broken {
		t.Errorf("got %d, %v", n, err)
	}
	b.Reset()
	if n, err := c.WriteTo(&b); n != 2 || b.String() != "bc" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %d, %q, %v", n, &b, err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
