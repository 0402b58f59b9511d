//go:build linux

package vhostuser

import (
	"errors"
	"runtime/debug"
	"time"

	"github.com/byrevm/byre/internal/virtio"
	"github.com/byrevm/byre/internal/vsock"
)

// maxChains is how many packets are taken before the ring's lock is offered to
// others: a guest that never stops sending must not keep QEMU's messages out.
const maxChains = 64

// signalEvery is how many packets the guest may have to wait for its interrupt.
const signalEvery = 16

// signalWithin is how long it has to wait at most, if it sends no more.
const signalWithin = 2 * time.Millisecond

var (
	errSendBuffer    = errors.New("packet buffer of the guest is writable")
	errReceiveBuffer = errors.New("receive buffer of the guest has no room or is not writable")
	errShortPacket   = errors.New("packet of the guest is shorter than its header says")
)

// An inbox is the way from the guest: the ring of its packets (virtqueue 1). It
// never waits for room in the other ring.
type inbox struct {
	virtio.Ring
	d *Device

	// Guarded by Ring.Mutex.
	news []*Conn     // that have something to read, see Conn.OnReadable
	late *time.Timer // for the interrupt that the guest waits for
	due  bool        // the timer runs
}

// pump takes packets, and asks for a kick when there are none left; otherwise
// more is true. The functions of news are to be called.
func (t *inbox) pump() (more bool, news []*Conn) {
	more, answers, news := t.take(maxChains)
	if answers {
		t.d.rx.pump()
	}
	return more, news
}

// take takes at most n packets. It reports whether there may be more, whether
// the guest must be sent something, and who has something to read.
func (t *inbox) take(n int) (more, answers bool, news []*Conn) {
	t.Lock()
	defer t.Leave(debug.SetPanicOnFault(true))
	defer func() { news, t.news = t.news, nil }()
	if !t.Running() {
		return false, false, nil
	}
	t.NeedNoKick()
	for i := 1; i <= n; i++ {
		ok, err := t.Pop()
		if err == nil && !ok {
			t.signalSoon()
			t.WantKick()
			return t.Waiting(), answers, nil
		}
		var answer bool
		if err == nil {
			answer, err = t.d.packet(&t.Buf)
		}
		if err != nil {
			t.Fail()
			t.d.b.Stop(err)
			return false, false, nil
		}
		answers = answers || answer
		t.Push(0)
		if i%signalEvery == 0 {
			t.Signal()
		}
	}
	t.Signal()
	return true, answers, nil
}

// signalSoon is signal that may come later: nobody in the guest waits for it
// but who finds the ring full, and each interrupt costs as much as a packet.
func (t *inbox) signalSoon() {
	switch n := t.Unsignaled(); {
	case n == 0 || t.due && n < min(signalEvery, t.Size()/4):
		return
	case n >= min(signalEvery, t.Size()/4):
		t.Signal()
		return
	case t.late == nil:
		t.late = time.AfterFunc(signalWithin, t.overdue)
	default:
		t.late.Reset(signalWithin)
	}
	t.due = true
}

// overdue sends the interrupt that signalSoon has put off.
func (t *inbox) overdue() {
	t.Lock()
	defer t.Leave(debug.SetPanicOnFault(true))
	t.due = false
	if t.Running() {
		t.Signal()
	}
}

// packet handles one packet of the guest and reports whether there is something
// to answer. An error means that the driver is broken.
func (d *Device) packet(ch *virtio.Buffer) (answer bool, err error) {
	if ch.Out.Len() > 0 {
		return false, errSendBuffer
	}
	if ch.In.Len() < headerLen {
		return false, errShortPacket
	}
	var b [headerLen]byte
	if err := ch.In.Take(b[:]); err != nil {
		return false, err
	}
	var h header
	h.decode(&b)
	if h.op == opData && uint64(h.length) > uint64(ch.In.Len()) {
		return false, errShortPacket
	}
	if h.srcCID != d.cid {
		return false, nil // §5.10.6.4: not from this guest
	}
	if h.dstCID != uint64(vsock.CIDHost) || h.typ != typeStream {
		return d.refuse(&h), nil
	}
	k := key{local: h.dstPort, remote: h.srcPort}
	d.mu.Lock()
	c := d.conns[k]
	d.mu.Unlock()
	if c == nil {
		if h.op != opRequest {
			return d.refuse(&h), nil
		}
		if c = d.incoming(k, &h); c == nil {
			return d.refuse(&h), nil
		}
		d.rx.list(c)
		return true, nil
	}
	v := c.receive(&h, &ch.In)
	if n := len(d.tx.news); c.readable.Load() != nil && (n == 0 || d.tx.news[n-1] != c) {
		d.tx.news = append(d.tx.news, c)
	}
	switch v {
	case tell:
		d.rx.list(c)
		return true, nil
	case forget:
		d.forget(c)
	case refuse:
		d.forget(c)
		return d.refuse(&h), nil
	}
	return false, nil
}

// refuse answers a packet with a reset, except a reset.
func (d *Device) refuse(h *header) bool {
	if h.op == opReset {
		return false
	}
	d.rx.refuse(h.reset())
	return true
}
