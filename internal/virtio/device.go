//go:build linux

package virtio

import (
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"
)

// maxServing is how many calls of Serve a device has at a time, less those that
// have yielded. Further chains wait in their ring.
const maxServing = 64

// A Config says what a device is.
type Config struct {
	Name     string // for messages
	Queues   int
	Features uint64       // of the device (VIRTIO 1.2 §5), beyond those of rings
	Space    []byte       // configuration space; nil: QEMU has it
	Logger   *slog.Logger // default slog.Default()

	// Serve does what a chain of queue q asks, and has it given back by
	// [Chain.Done] once, from this or any other goroutine, now or later. It is
	// called by many goroutines at a time.
	//
	// It runs on the goroutine that saw the chain. When it takes milliseconds, or
	// calls [Chain.Yield], another one looks at the queue from then on.
	Serve func(q int, c *Chain)
}

// A Device is a virtio device whose driver posts requests and gets an answer to
// each, in any order.
type Device struct {
	b        *Backend
	serve    func(q int, c *Chain)
	queues   []*queue
	stopTime time.Duration
	jobs     sync.WaitGroup // calls of Serve

	mu      sync.Mutex // held for moments only
	serving int
}

// NewDevice makes a device and serves conn, the vhost-user socket whose other
// end is QEMU's, until [Device.Close] or until QEMU goes. The device owns conn.
func NewDevice(conn *net.UnixConn, c Config) *Device {
	d := newDevice(conn, c)
	go d.b.Serve()
	return d
}

func newDevice(conn *net.UnixConn, c Config) *Device {
	d := &Device{serve: c.Serve, stopTime: stopTime}
	m := Model{
		Name: c.Name, Features: c.Features, Space: c.Space, Logger: c.Logger,
		Kicks:    func(i int, k *Kick) { d.queues[i].lead(k) },
		Started:  func(i int) { d.queues[i].started() },
		Stopped:  func(i int) { d.queues[i].stopped() },
		Halted:   func(error) { d.halted() },
		Finished: func(error) { d.jobs.Wait() },
	}
	for i := range c.Queues {
		q := newQueue(d, i)
		d.queues = append(d.queues, q)
		m.Rings = append(m.Rings, &q.Ring)
		m.Names = append(m.Names, c.Name+" "+strconv.Itoa(i))
	}
	d.b = NewBackend(conn, m)
	return d
}

// Close ends the device: no chain is of use any more (see [Chain.Gone]), every
// call of Serve has returned, and nothing touches the guest's memory but what
// still has a chain. A second call waits for the first.
func (d *Device) Close() error { return d.b.Close() }

// Done is closed when the device has ended, as after Close: QEMU went, QEMU or
// the guest broke the protocol, or Close was called.
func (d *Device) Done() <-chan struct{} { return d.b.Done() }

// Err returns why the device has ended, or nil while it has not: net.ErrClosed
// after Close, io.EOF when QEMU went, else what QEMU or the guest did wrong.
func (d *Device) Err() error { return d.b.Err() }

func (d *Device) halted() {
	for _, q := range d.queues {
		q.halted()
	}
}

// acquire makes room for one more call of Serve; false when there is none.
func (d *Device) acquire() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serving == maxServing {
		return false
	}
	d.serving++
	return true
}

// release gives the room back, to who has found none. No ring is locked.
func (d *Device) release() {
	d.mu.Lock()
	full := d.serving == maxServing
	d.serving--
	d.mu.Unlock()
	if full {
		for _, q := range d.queues {
			q.Nudge()
		}
	}
}
