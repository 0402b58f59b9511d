//go:build linux

package virtio

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
)

// A Model is what a [Backend] is the back end of. Its functions are called by
// the goroutine that serves QEMU's messages; those that may be nil say so.
type Model struct {
	Name     string
	Features uint64  // of the device, beyond those of rings
	Space    []byte  // configuration space; nil: QEMU does not ask for it
	Rings    []*Ring // by index; who locks several locks the last first
	Names    []string
	Together bool         // no ring runs unless all can
	Logger   *slog.Logger // default slog.Default()

	// Kicks has something wait for ring i's kicks by [Backend.Wait], look at the
	// ring, and free k in the end. It runs on until then, with the Backend.
	Kicks func(i int, k *Kick)

	Drain    func()          // rings will be stopped: last look; may be nil
	Started  func(i int)     // ring i, which is locked, begins to run; may be nil
	Cleared  func()          // all rings are locked, one is stopped; may be nil
	Settled  func(up bool)   // a message came; up: every ring runs; may be nil
	Stopped  func(i int)     // QEMU has stopped ring i, and waits for the return
	Halted   func(err error) // all rings are stopped, for err
	Finished func(err error) // the conversation is over, for err; no kick is waited for
}

// A Backend is a device's end of a vhost-user socket: it answers QEMU, maps the
// guest's memory, and starts and stops rings. All methods may be called
// concurrently.
type Backend struct {
	model Model
	log   *slog.Logger
	sock  *net.UnixConn

	// Of the goroutine that serves sock.
	features, protocol uint64
	mem                *memory

	kicks sync.WaitGroup // who waits for kicks
	done  chan struct{}  // closed when everything is over

	mu    sync.Mutex // held for moments only, taken after every other lock
	ended error      // the first reason to stop
}

// NewBackend makes the back end of m. Nothing happens until [Backend.Serve].
func NewBackend(conn *net.UnixConn, m Model) *Backend {
	if m.Logger == nil {
		m.Logger = slog.Default()
	}
	b := &Backend{model: m, log: m.Logger, sock: conn, mem: newMemory(nil), done: make(chan struct{})}
	for i, r := range m.Rings {
		r.b, r.name, r.call = b, m.Names[i], -1
	}
	return b
}

// Close ends the conversation, and returns when everything is over. A second
// call waits for the first.
func (b *Backend) Close() error {
	b.Stop(net.ErrClosed)
	<-b.done
	return nil
}

// Done is closed when everything is over.
func (b *Backend) Done() <-chan struct{} { return b.done }

// Err returns why everything is over, or nil while it is not: net.ErrClosed
// after Close, io.EOF when QEMU went, else what QEMU or the guest did wrong.
func (b *Backend) Err() error {
	select {
	case <-b.done:
		return b.Ended()
	default:
		return nil
	}
}

// Ended returns why the conversation ends or has ended, or nil.
func (b *Backend) Ended() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// Stop makes Serve end everything; the first reason stays. It may be called
// under any lock.
func (b *Backend) Stop(err error) {
	b.mu.Lock()
	first := b.ended == nil
	if first {
		b.ended = err
	}
	b.mu.Unlock()
	if first {
		// Wakes the goroutine; and QEMU, which would wait for an answer for ever
		// if somebody still had a copy of the descriptor.
		_ = b.sock.CloseWrite()
		_ = b.sock.CloseRead()
		_ = b.sock.Close()
	}
}

// fault handles what a method on guest memory recovered: guest memory that went
// away under it (a file that was cut) ends the device, anything else is a bug.
func (b *Backend) fault(v any) {
	if v == nil {
		return
	}
	var addr interface{ Addr() uintptr }
	if err, ok := v.(runtime.Error); !ok || !errors.As(err, &addr) {
		panic(v)
	}
	b.Stop(fmt.Errorf("guest memory: %v", v))
}
