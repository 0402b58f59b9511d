package qemu

import (
	"log/slog"
	"net"
	"time"

	"github.com/byrevm/byre/internal/lockwait"
	"github.com/byrevm/byre/internal/virtiofs"
)

// lockLook is the time between two questions to a guest whose threads wait for
// locks. The guest's kernel has no event for a signal that comes to a thread of
// another process: somebody has to look, and does while somebody waits.
const lockLook = 20 * time.Millisecond

// waiters are requests that wait for a lock; a [virtiofs.Server] has them.
type waiters interface {
	// Waiting returns who waits, and what is closed when that has changed.
	Waiting() ([]virtiofs.Waiter, <-chan struct{})
	// Interrupt ends a wait. One that is not there any more is no error.
	Interrupt(unique uint64) bool
	Done() <-chan struct{}
}

// serveLocks asks the guest's agent, by the connection that it opens, who has a
// signal of those that wait for a lock, and ends their waits; see package
// lockwait. A guest can answer what it likes, and end its own waits so. The
// agent has one connection: another is served when that has ended. It returns
// when l has ended.
func serveLocks(l net.Listener, w waiters, log *slog.Logger) {
	defer l.Close()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		err = askAboutLocks(conn, w)
		conn.Close()
		log.Debug("guest says no more who waits for locks in vain", "err", err)
	}
}

// askAboutLocks asks for as long as the connection lasts and the device.
func askAboutLocks(conn net.Conn, w waiters) error {
	look := time.NewTimer(lockLook)
	defer look.Stop()
	for {
		if all, changed := w.Waiting(); len(all) == 0 {
			select {
			case <-changed:
			case <-w.Done():
				return nil
			}
		}
		look.Reset(lockLook) // first: most have their lock by then
		select {
		case <-look.C:
		case <-w.Done():
			return nil
		}
		all, _ := w.Waiting()
		if err := interrupt(conn, w, all); err != nil {
			return err
		}
	}
}

// interrupt ends the waits of those that have a signal.
func interrupt(conn net.Conn, w waiters, all []virtiofs.Waiter) error {
	for len(all) > 0 {
		some := all[:min(len(all), lockwait.Max)]
		all = all[len(some):]
		var threads []uint32
		for _, one := range some {
			threads = append(threads, one.Thread)
		}
		which, err := lockwait.Ask(conn, threads)
		if err != nil {
			return err
		}
		for _, n := range which {
			w.Interrupt(some[n].Unique)
		}
	}
	return nil
}
