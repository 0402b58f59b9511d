//go:build linux

package guest

import (
	"context"
	"log/slog"
	"net"
	"sync"

	"github.com/byrevm/byre/internal/guest/signals"
	"github.com/byrevm/byre/internal/lockwait"
)

// A lockWatch tells the host which threads have a signal of those that wait for
// a lock of a shared file; see package lockwait.
type lockWatch struct {
	dial func(ctx context.Context, port uint32) (net.Conn, error)
	log  *slog.Logger

	mu sync.Mutex
	on bool // there is a connection, or will be
}

// begin connects to the host, unless there is a connection.
func (w *lockWatch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.on {
		return
	}
	w.on = true
	go func() {
		err := w.watch()
		w.mu.Lock()
		w.on = false
		w.mu.Unlock()
		// The next share that is mounted tries again.
		w.log.Warn("who waits for a lock of a share cannot be interrupted", "err", err)
	}()
}

func (w *lockWatch) watch() error {
	c, err := w.dial(context.Background(), lockwait.Port)
	if err != nil {
		return err
	}
	defer c.Close()
	return lockwait.Answer(c, signals.Pending)
}
