package vsock

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// TestLoopback needs a kernel with AF_VSOCK and its loopback transport to say
// more than how their absence is reported; VMs have them.
func TestLoopback(t *testing.T) {
	l, err := Listen(PortAny)
	if err != nil {
		if !errors.Is(err, syscall.EAFNOSUPPORT) {
			t.Fatal(err)
		}
		return
	}
	defer l.Close()
	port := l.Addr().(Addr).Port
	if port == PortAny || port == 0 {
		t.Fatalf("listening on %v", l.Addr())
	}
	c, err := Dial(t.Context(), CIDLocal, port)
	if errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ETIMEDOUT) {
		t.Logf("no loopback: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got, want := c.RemoteAddr(), (Addr{CIDLocal, port}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := c.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(a); string(b) != "question" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := a.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if b, err := io.ReadAll(c); string(b) != "answer" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestDialEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, CIDHost, 1); err == nil {
		t.Error("dialed")
	}
}
