//go:build linux

package vhostuser

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/byrevm/byre/internal/vsock"
)

// maxConns is how many connections a guest and its host may have at a time.
const maxConns = 1024

// lingerTime is how long a closed connection waits for the guest to let go.
const lingerTime = 10 * time.Second

// A Config says how a device is.
type Config struct {
	GuestCID uint64       // default vsock.CIDGuest
	Logger   *slog.Logger // default slog.Default()
}

// A Device is the virtio socket device of one VM. All methods may be called
// concurrently.
type Device struct {
	cid        uint64
	log        *slog.Logger
	sock       *net.UnixConn
	lingerTime time.Duration

	tx inbox
	rx outbox

	// Of the goroutine that serves sock.
	features, protocol uint64
	mem                *memory

	kicks sync.WaitGroup // the goroutines that wait for kicks
	done  chan struct{}  // closed when everything is over

	mu        sync.Mutex
	conns     map[key]*Conn
	listeners map[uint32]*listener
	nextPort  uint32
	up        bool          // the guest's driver is up: Dial and requests may pass
	ready     chan struct{} // closed when up becomes true, or the device ends
	ended     error         // the first reason to stop
}

// New makes a device and serves conn, the vhost-user socket whose other end is
// QEMU's, until [Device.Close] or until QEMU goes. The device owns conn.
func New(conn *net.UnixConn, c Config) *Device {
	d := newDevice(conn, c)
	go d.serve()
	return d
}

func newDevice(conn *net.UnixConn, c Config) *Device {
	if c.GuestCID == 0 {
		c.GuestCID = uint64(vsock.CIDGuest)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	d := &Device{
		cid: c.GuestCID, log: c.Logger, sock: conn, lingerTime: lingerTime,
		mem:       &memory{},
		done:      make(chan struct{}),
		conns:     map[key]*Conn{},
		listeners: map[uint32]*listener{},
		nextPort:  firstPort,
		ready:     make(chan struct{}),
	}
	d.tx.d, d.rx.d = d, d
	d.rx.name, d.tx.name = "receive", "transmit"
	d.rx.call, d.tx.call = -1, -1
	return d
}

// Close ends the device: every connection and listener fails, nothing touches
// the guest's memory any more, and all its goroutines have ended, but for those
// that run a function of [Conn.OnReadable] which has yielded. What connections
// had received stays readable. A second call waits for the first.
func (d *Device) Close() error {
	d.stop(net.ErrClosed)
	<-d.done
	return nil
}

// Done is closed when the device has ended: QEMU went, QEMU or the guest broke
// the protocol, or Close was called.
func (d *Device) Done() <-chan struct{} { return d.done }

// Err returns why the device has ended, or nil while it has not: net.ErrClosed
// after Close, io.EOF when QEMU went, else what QEMU or the guest did wrong.
func (d *Device) Err() error {
	select {
	case <-d.done:
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.ended
	default:
		return nil
	}
}

// stop makes the serving goroutine end everything; the first reason stays. It
// may be called under any lock but d.mu.
func (d *Device) stop(err error) {
	d.mu.Lock()
	first := d.ended == nil
	if first {
		d.ended = err
	}
	d.mu.Unlock()
	if first {
		// Wakes the goroutine; and QEMU, which would wait for an answer for ever
		// if somebody still had a copy of the descriptor.
		_ = d.sock.CloseWrite()
		_ = d.sock.CloseRead()
		_ = d.sock.Close()
	}
}

// A gone error is what connections of an ended device report.
type gone struct{ cause error }

func (g gone) Error() string   { return "vsock device ended: " + g.cause.Error() }
func (g gone) Unwrap() []error { return []error{syscall.ECONNRESET, g.cause} }

// fault handles what a method on guest memory recovered: guest memory that went
// away under it (a file that was cut) ends the device, anything else is a bug.
func (d *Device) fault(v any) {
	if v == nil {
		return
	}
	var addr interface{ Addr() uintptr }
	if err, ok := v.(runtime.Error); !ok || !errors.As(err, &addr) {
		panic(v)
	}
	d.stop(fmt.Errorf("guest memory: %v", v))
}

// forget takes c out of the table; false when it was not in it any more.
func (d *Device) forget(c *Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conns[c.key] != c {
		return false
	}
	delete(d.conns, c.key)
	return true
}

// abort resets a connection from this end, unless it is over already.
func (d *Device) abort(c *Conn, err error) bool {
	if !d.forget(c) {
		return false
	}
	c.mu.Lock()
	h := c.header(opReset)
	c.end(err)
	c.mu.Unlock()
	d.rx.refuse(h)
	d.rx.pump()
	return true
}

// reset ends every connection: the guest's driver has gone and knows none of
// them. Listeners stay.
func (d *Device) reset(err error) {
	d.mu.Lock()
	conns := d.conns
	d.conns = map[key]*Conn{}
	d.mu.Unlock()
	for _, c := range conns {
		c.fail(err)
	}
}
