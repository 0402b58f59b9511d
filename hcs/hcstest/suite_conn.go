package hcstest

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/byrevm/byre/hcs"
)

// A connection carries bytes both ways, closes in one direction at a time,
// and breaks when the system stops.
func testConnection(e *env) {
	if e.f.GuestDial == nil {
		e.Logf("not tested: the fixture boots no guest")
		return
	}
	s := e.start()
	service := hcs.VsockServiceID(5005)
	l, err := s.Listen(service)
	if err != nil {
		e.Fatalf("listen: %v", err)
	}
	pair := func() (host, guest net.Conn) {
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				e.Errorf("accept: %v", err)
				close(accepted)
				return
			}
			accepted <- c
		}()
		guest = e.f.GuestDial(e, s, service)
		select {
		case host = <-accepted:
		case <-time.After(waitLimit):
		}
		if host == nil {
			e.Fatalf("the connection was not accepted")
		}
		e.Cleanup(func() {
			host.Close()
			guest.Close()
		})
		for _, c := range []net.Conn{host, guest} {
			c.SetDeadline(time.Now().Add(waitLimit))
		}
		return host, guest
	}
	a, b := pair()
	for range 2 { // one way, then the other
		data := strings.Repeat("0123456789abcdef", 32<<10)
		go func(c net.Conn) {
			if _, err := io.WriteString(c, data); err != nil {
				e.Errorf("write: %v", err)
			}
			cw, ok := c.(interface{ CloseWrite() error })
			if !ok {
				e.Errorf("%T has no CloseWrite", c)
				c.Close()
			} else if err := cw.CloseWrite(); err != nil {
				e.Errorf("closing one direction: %v", err)
			}
		}(a)
		got, err := io.ReadAll(b)
		if err != nil || string(got) != data {
			e.Errorf("read %d bytes, %v; want %d", len(got), err, len(data))
		}
		a, b = b, a
	}
	host, _ := pair()
	if err := l.Close(); err != nil {
		e.Errorf("closing the listener: %v", err)
	}
	if err := s.Terminate(e.Context()); err != nil {
		e.Errorf("terminate: %v", err)
	}
	if _, err := io.ReadAll(host); err == nil {
		// An end of file is as good: the connection does not hang.
		e.Logf("the connection ended in order when the system stopped")
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		e.Errorf("the connection outlived its system")
	}
}
