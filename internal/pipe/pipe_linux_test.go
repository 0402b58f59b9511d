package pipe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A server is a socket of the host, by its path.
type server struct {
	net.Listener
	path string
}

func listen(t *testing.T, serve func(*net.UnixConn)) *server {
	t.Helper()
	s := &server{path: filepath.Join(t.TempDir(), "s")}
	var err error
	if s.Listener, err = net.Listen("unix", s.path); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c.(*net.UnixConn))
			})
		}
	})
	t.Cleanup(func() {
		s.Close()
		wg.Wait()
	})
	return s
}

// echo sends back what it gets, and its end.
func echo(c *net.UnixConn) {
	io.Copy(c, c)
	c.CloseWrite()
}

// chain is what host and guest make together: a socket whose clients reach
// path, through two relays and a socket in the place of the vsock port.
func chain(t *testing.T, path string) (at string, guest, host *Relay) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	sock, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	port, at := filepath.Join(dir, "port"), filepath.Join(dir, "guest")
	vsock, err1 := net.Listen("unix", port)
	l, err2 := net.Listen("unix", at)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	host = Start(Config{Listener: vsock, Dial: sock.Dial, Logger: log})
	guest = Start(Config{Listener: l, Logger: log, Shared: make(chan struct{}, 2*MaxConns), Dial: func(ctx context.Context) (Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", port)
		if err != nil {
			return nil, err
		}
		return c.(*net.UnixConn), nil
	}})
	t.Cleanup(func() {
		guest.Close()
		host.Close()
		sock.Close()
	})
	return at, guest, host
}

func dial(t testing.TB, path string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}

func TestRelay(t *testing.T) {
	at, _, _ := chain(t, listen(t, echo).path)
	var wg sync.WaitGroup
	for i := range MaxConns + 40 { // some wait for others
		c := dial(t, at)
		wg.Go(func() {
			defer c.Close()
			data := make([]byte, 1+i*300)
			rand.Read(data)
			wg.Go(func() {
				c.Write(data)
				c.CloseWrite()
			})
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("connection %d: %d of %d bytes, %v", i, len(got), len(data), err)
			}
		})
	}
	wg.Wait()
}

// TestRelayHalves ends one half, from either side, and goes on with the other.
func TestRelayHalves(t *testing.T) {
	srv := listen(t, func(c *net.UnixConn) {
		fmt.Fprint(c, "hello") // it speaks first
		c.CloseWrite()
		b, err := io.ReadAll(c)
		if string(b) != "question" || err != nil {
			t.Errorf("the server got %q, %v", b, err)
		}
	})
	at, guest, host := chain(t, srv.path)
	c := dial(t, at)
	if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	fmt.Fprint(c, "question")
	c.CloseWrite()
	idle(t, guest)
	idle(t, host)
}

// TestRelayBroken lets a server hang up on a client that still writes: the
// client hears what it said, and cannot go on writing.
func TestRelayBroken(t *testing.T) {
	at, guest, host := chain(t, listen(t, func(c *net.UnixConn) {
		io.ReadFull(c, make([]byte, 1))
		fmt.Fprint(c, "too large")
		c.CloseRead()
	}).path)
	c := dial(t, at)
	var err error
	for err == nil {
		_, err = c.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if b, err := io.ReadAll(c); string(b) != "too large" {
		t.Errorf("got %q, %v", b, err)
	}
	c.Close()
	idle(t, guest)
	idle(t, host)
}

// idle waits until a relay carries nothing.
func idle(t *testing.T, r *Relay) {
	t.Helper()
	for range cap(r.slots) {
		select {
		case r.slots <- struct{}{}:
		case <-time.After(10 * time.Second):
			t.Fatal("a connection is left")
		}
	}
	for range cap(r.slots) {
		<-r.slots
	}
}

func TestRelayClose(t *testing.T) {
	for _, end := range []string{"guest", "host"} {
		t.Run(end, func(t *testing.T) {
			at, guest, host := chain(t, listen(t, func(c *net.UnixConn) { io.Copy(io.Discard, c) }).path)
			var conns []*net.UnixConn
			for range MaxConns + 3 { // the last wait
				c := dial(t, at)
				fmt.Fprint(c, "x")
				conns = append(conns, c)
			}
			r := map[string]*Relay{"guest": guest, "host": host}[end]
			r.Close()
			r.Close()
			for i, c := range conns[:MaxConns] {
				if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("connection %d: %d, %v", i, n, err)
				}
			}
		})
	}
}

// TestRelayDead has a server that is gone: its clients are told at once.
func TestRelayDead(t *testing.T) {
	srv := listen(t, echo)
	at, guest, _ := chain(t, srv.path)
	srv.Close()
	c := dial(t, at)
	if b, err := io.ReadAll(c); len(b) != 0 {
		t.Errorf("got %q, %v", b, err)
	}
	c.Close()
	idle(t, guest)
}

// A flaky listener has no descriptors for a while.
type flaky struct {
	net.Listener
	fails atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.fails.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept", syscall.EMFILE)}
	}
	return f.Listener.Accept()
}

func TestRelayAccept(t *testing.T) {
	s, err := Open(listen(t, echo).path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{Listener: l}
	f.fails.Store(2)
	r := Start(Config{Listener: f, Dial: s.Dial, Logger: slog.New(slog.DiscardHandler)})
	defer r.Close()
	c := dial(t, at)
	fmt.Fprint(c, "x")
	c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != "x" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestSocketStays replaces a socket by another, to which nobody gets.
func TestSocketStays(t *testing.T) {
	old := listen(t, func(c *net.UnixConn) { fmt.Fprint(c, "old") })
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(old.path, link); err != nil {
		t.Fatal(err)
	}
	s, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	old.Listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Remove(old.path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", old.path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); string(b) != "old" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestSocketQueue dials a server whose queue is full: it waits, at most as
// long as its context.
func TestSocketQueue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dialed: %v", err)
	}
	result := make(chan error)
	go func() {
		c, err := s.Dial(t.Context())
		if err == nil {
			c.Close()
		}
		result <- err
	}()
	n, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(n)
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	datagram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at("datagram"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()
	dead, err := net.Listen("unix", at("dead"))
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	for name, want := range map[string]error{
		"none": fs.ErrNotExist, "file": errNoSocket, ".": errNoSocket, "datagram": errDatagram, "dead": syscall.ECONNREFUSED,
	} {
		if s, err := Open(at(name)); !errors.Is(err, want) {
			t.Errorf("%s: got %v, %v, want %v", name, s, err, want)
		}
	}
}

func TestStat(t *testing.T) {
	srv := listen(t, echo)
	if err := os.Chmod(srv.path, 0o620); err != nil {
		t.Fatal(err)
	}
	got, err := Stat(srv.path)
	want := Access{Mode: 0o620, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if got != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := Stat(filepath.Dir(srv.path)); !errors.Is(err, errNoSocket) {
		t.Error(err)
	}
	if _, err := Stat(srv.path + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
