//go:build linux

package stdio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// A Conn is one stream's connection to the host.
type Conn interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
}

// A Dialer connects to a vsock port of the host.
type Dialer func(ctx context.Context, port uint32) (Conn, error)

// Ports has the host's port of each stream, 0 for a stream that there is not.
type Ports struct{ In, Out, Err uint32 }

// Conns has the connection of each stream, nil for a stream that there is not.
type Conns struct{ In, Out, Err Conn }

// How often, and how far apart, a connection is tried that the host does not
// answer.
const (
	attempts = 10
	between  = 100 * time.Millisecond
)

// Dial connects the streams, in the order in, out, err. On an error there are
// none.
func Dial(ctx context.Context, p Ports, dial Dialer) (c Conns, err error) {
	defer func() {
		if err != nil {
			c.Close()
			c = Conns{}
		}
	}()
	for _, s := range []struct {
		name string
		port uint32
		conn *Conn
	}{{"stdin", p.In, &c.In}, {"stdout", p.Out, &c.Out}, {"stderr", p.Err, &c.Err}} {
		if s.port == 0 {
			continue
		}
		if *s.conn, err = connect(ctx, s.port, dial); err != nil {
			return c, fmt.Errorf("connecting %s: %w", s.name, err)
		}
	}
	return c, nil
}

func connect(ctx context.Context, port uint32, dial Dialer) (Conn, error) {
	for n := 1; ; n++ {
		c, err := dial(ctx, port)
		if err == nil {
			return c, nil
		}
		var timeout net.Error
		if n == attempts || ctx.Err() != nil || !errors.As(err, &timeout) || !timeout.Timeout() {
			return nil, err
		}
		select {
		case <-time.After(between):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close closes the connections.
func (c Conns) Close() {
	for _, s := range []Conn{c.In, c.Out, c.Err} {
		if s != nil {
			s.Close()
		}
	}
}
