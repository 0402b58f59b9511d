//go:build linux

package vhostuser

import (
	"io"
	"net"
	"testing"

	"golang.org/x/net/nettest"
)

// The connections are net.Conns as package net's own tests want them. Both ends
// are the host's; a program in the guest joins them.
func TestNetConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		d, g := boot(t, guestConfig{events: true, indirect: true})
		l, err := d.Listen(1)
		if err != nil {
			return nil, nil, nil, err
		}
		q := g.listen(2)
		if c1, err = d.Dial(t.Context(), 2); err != nil {
			return nil, nil, nil, err
		}
		s1 := <-q
		s2, err := g.dial(1, 3)
		if err != nil {
			return nil, nil, nil, err
		}
		if c2, err = l.Accept(); err != nil {
			return nil, nil, nil, err
		}
		g.wg.Go(func() { join(s1, s2) })
		g.wg.Go(func() { join(s2, s1) })
		stop = func() {
			c1.Close()
			c2.Close()
			l.Close()
			settled(t, d)
		}
		return c1, c2, stop, nil
	})
}

// join passes what from receives on to to.
func join(from, to *sock) {
	_, err := io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
	if err != nil {
		from.shutdown(shutRecv)
	}
	to.shutdown(shutSend)
}
