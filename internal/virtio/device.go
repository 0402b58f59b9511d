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

// maxYielded is how many calls that have yielded do not count: each is a thread
// while it waits for the disk, and a process may have only so many.
const maxYielded = 192

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

	mu      sync.Mutex // held for moments only; guards the rest
	serving int
	yielded int
	starved []bool // queues that have found no room
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
		d.queues, d.starved = append(d.queues, q), append(d.starved, false)
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

// acquire makes room for one more call of Serve, for a chain of queue i; false
// when there is none.
func (d *Device) acquire(i int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.serving == maxServing {
		d.starved[i] = true
		return false
	}
	d.serving++
	return true
}

// A room is what a call of Serve counts among.
type room int

const (
	roomServing room = iota
	roomYielded
	roomNone
)

// move has a call count among others, if there is room. No ring is locked.
func (d *Device) move(r *room, to room) {
	d.mu.Lock()
	from := *r
	var starved []*queue
	switch {
	case from == roomNone, to == roomYielded && (from == to || d.yielded == maxYielded):
		to = from
	case from == roomYielded:
		d.yielded--
	default:
		starved = d.free()
	}
	if to == roomYielded && from != to {
		d.yielded++
	}
	*r = to
	d.mu.Unlock()
	for _, q := range starved {
		q.Nudge()
	}
}

// free gives room back, and returns the queues that have found none, for
// [Ring.Nudge]. d.mu is held.
func (d *Device) free() (starved []*queue) {
	d.serving--
	for i, s := range d.starved {
		if s {
			d.starved[i] = false
			starved = append(starved, d.queues[i])
		}
	}
	return starved
}
