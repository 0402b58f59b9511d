package hcstest

import (
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/byrevm/byre/hcs"
)

func connPair(t testing.TB, n *network, s side) (dialled, accepted *conn) {
	t.Helper()
	l, err := n.listen(s, hcs.VsockServiceID(1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := n.dial(t.Context(), s, hcs.VsockServiceID(1))
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a.(*conn), b.(*conn)
}

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := connPair(t, newNetwork(), guestSide)
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

func TestConnCloses(t *testing.T) {
	n := newNetwork()
	a, b := connPair(t, n, hostSide)
	if _, err := a.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	a.CloseWrite()
	if got, err := io.ReadAll(b); string(got) != "x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := a.Write([]byte("x")); err == nil {
		t.Error("wrote after CloseWrite")
	}
	if _, err := b.Write([]byte("y")); err != nil {
		t.Errorf("the other direction is closed: %v", err)
	}
	a.Close()
	if _, err := b.Write([]byte("y")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write to a closed peer: %v", err)
	}
	if l, c := n.open(); l != 0 || c != 1 {
		t.Errorf("%d listeners, %d connections; want 0, 1", l, c)
	}
	b.Close()
	if _, c := n.open(); c != 0 {
		t.Errorf("%d connections left", c)
	}

	a, b = connPair(t, n, hostSide)
	if _, err := a.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	l, err := n.listen(hostSide, hcs.VsockServiceID(2))
	if err != nil {
		t.Fatal(err)
	}
	n.end()
	for _, c := range []*conn{a, b} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errReset) {
			t.Errorf("read from a stopped system: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, errReset) {
			t.Errorf("write to a stopped system: %v", err)
		}
		c.Close()
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept in a stopped system: %v", err)
	}
	if _, err := n.dial(t.Context(), hostSide, hcs.VsockServiceID(2)); !errors.Is(err, hcs.ErrStopped) {
		t.Errorf("dial in a stopped system: %v", err)
	}
}

// A listener holds a number of connections and refuses more.
func TestBacklog(t *testing.T) {
	n := newNetwork()
	if _, err := n.dial(t.Context(), hostSide, hcs.VsockServiceID(1)); !errors.Is(err, hcs.ErrNotFound) {
		t.Errorf("dial without listener: %v", err)
	}
	l, err := n.listen(hostSide, hcs.VsockServiceID(1))
	if err != nil {
		t.Fatal(err)
	}
	for i := range backlog + 1 {
		c, err := n.dial(t.Context(), hostSide, hcs.VsockServiceID(1))
		if (err == nil) != (i < backlog) {
			t.Fatalf("connection %d: %v", i, err)
		}
		if c != nil {
			defer c.Close()
		}
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}
