//go:build linux

package vhostuser

import (
	"encoding/binary"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/byrevm/byre/internal/virtio"
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
	b          *virtio.Backend
	lingerTime time.Duration

	tx inbox
	rx outbox

	mu        sync.Mutex
	conns     map[key]*Conn
	listeners map[uint32]*listener
	nextPort  uint32
	up        bool          // the guest's driver is up: Dial and requests may pass
	ready     chan struct{} // closed when up becomes true, or the device ends
}

// New makes a device and serves conn, the vhost-user socket whose other end is
// QEMU's, until [Device.Close] or until QEMU goes. The device owns conn.
func New(conn *net.UnixConn, c Config) *Device {
	d := newDevice(conn, c)
	go d.b.Serve()
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
		cid: c.GuestCID, log: c.Logger, lingerTime: lingerTime,
		conns:     map[key]*Conn{},
		listeners: map[uint32]*listener{},
		nextPort:  firstPort,
		ready:     make(chan struct{}),
	}
	d.tx.d, d.rx.d = d, d
	d.b = virtio.NewBackend(conn, virtio.Model{
		Name: "vsock", Logger: c.Logger,
		Space:    binary.LittleEndian.AppendUint64(nil, d.cid),
		Rings:    []*virtio.Ring{ringReceive: &d.rx.Ring, ringTransmit: &d.tx.Ring},
		Names:    []string{ringReceive: "receive", ringTransmit: "transmit"},
		Together: true,
		Kicks:    d.kicks,
		Drain:    d.drain,
		Cleared:  d.rx.drop,
		Settled:  d.settled,
		Stopped:  func(int) { d.reset(syscall.ECONNRESET) },
		Halted:   d.halted,
		Finished: d.finish,
	})
	return d
}

// Close ends the device: every connection and listener fails, nothing touches
// the guest's memory any more, and all its goroutines have ended, but for those
// that run a function of [Conn.OnReadable] which has yielded. What connections
// had received stays readable. A second call waits for the first.
func (d *Device) Close() error { return d.b.Close() }

// Done is closed when the device has ended: QEMU went, QEMU or the guest broke
// the protocol, or Close was called.
func (d *Device) Done() <-chan struct{} { return d.b.Done() }

// Err returns why the device has ended, or nil while it has not: net.ErrClosed
// after Close, io.EOF when QEMU went, else what QEMU or the guest did wrong.
func (d *Device) Err() error { return d.b.Err() }

// A gone error is what connections of an ended device report.
type gone struct{ cause error }

func (g gone) Error() string   { return "vsock device ended: " + g.cause.Error() }
func (g gone) Unwrap() []error { return []error{syscall.ECONNRESET, g.cause} }

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
