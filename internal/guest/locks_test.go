//go:build linux

package guest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"

	"github.com/byrevm/byre/internal/lockwait"
)

// A connection is made for the first share, again after it has ended, and never
// twice.
func TestLockWatch(t *testing.T) {
	type dialed struct {
		host net.Conn
		port uint32
	}
	dials, refuse := make(chan dialed, 10), make(chan error, 1)
	lost := make(chan struct{}, 10)
	w := &lockWatch{
		log: slog.New(told{slog.DiscardHandler, lost}),
		dial: func(_ context.Context, port uint32) (net.Conn, error) {
			select {
			case err := <-refuse:
				return nil, err
			default:
			}
			host, agent := net.Pipe()
			dials <- dialed{host, port}
			return agent, nil
		},
	}
	refuse <- errors.New("refused")
	w.begin()
	<-lost
	for range 2 {
		for range 5 {
			w.begin()
		}
		d := <-dials
		if d.port != lockwait.Port {
			t.Errorf("dialed port %d, want %d", d.port, lockwait.Port)
		}
		// This process has no signal.
		if which, err := lockwait.Ask(d.host, []uint32{uint32(os.Getpid())}); err != nil || len(which) > 0 {
			t.Errorf("got %v, %v", which, err)
		}
		d.host.Close()
		<-lost
	}
	if n := len(dials); n > 0 {
		t.Errorf("%d connections too many", n)
	}
}

// told tells of each message.
type told struct {
	slog.Handler
	messages chan struct{}
}

func (h told) Enabled(context.Context, slog.Level) bool { return true }

func (h told) Handle(context.Context, slog.Record) error {
	h.messages <- struct{}{}
	return nil
}
