//go:build linux

package vhostuser

import (
	"errors"
	"runtime/debug"

	"github.com/byrevm/byre/internal/vsock"
)

// maxChains is how many packets are taken before the ring's lock is offered to
// others: a guest that never stops sending must not keep QEMU's messages out.
const maxChains = 64

// signalEvery is how many packets the guest may have to wait for its interrupt.
const signalEvery = 16

var (
	errSendBuffer    = errors.New("packet buffer of the guest is writable")
	errReceiveBuffer = errors.New("receive buffer of the guest has no room or is not writable")
	errShortPacket   = errors.New("packet of the guest is shorter than its header says")
)

// An inbox is the way from the guest: the ring of its packets (virtqueue 1). It
// never waits for room in the other ring.
type inbox struct {
	ring
	d *Device
}

func (t *inbox) leave(old bool) {
	debug.SetPanicOnFault(old)
	v := recover()
	if v != nil {
		t.fail()
	}
	t.mu.Unlock()
	t.d.fault(v)
}

// pump takes packets, and asks for a kick when there are none left; otherwise it
// returns true.
func (t *inbox) pump() (more bool) {
	more, answers := t.take(maxChains)
	if answers {
		t.d.rx.pump()
	}
	return more
}

// take takes at most n packets. It reports whether there may be more, and
// whether the guest must be sent something.
func (t *inbox) take(n int) (more, answers bool) {
	t.mu.Lock()
	defer t.leave(debug.SetPanicOnFault(true))
	if !t.running {
		return false, false
	}
	t.needNoKick()
	for i := 1; i <= n; i++ {
		ok, err := t.pop()
		if err == nil && !ok {
			t.signal()
			t.wantKick()
			return load16(t.avail, 2) != t.next, answers
		}
		var answer bool
		if err == nil {
			answer, err = t.d.packet(&t.chain)
		}
		if err != nil {
			t.fail()
			t.d.stop(err)
			return false, false
		}
		answers = answers || answer
		t.push(0)
		if i%signalEvery == 0 {
			t.signal()
		}
	}
	t.signal()
	return true, answers
}

// packet handles one packet of the guest and reports whether there is something
// to answer. An error means that the driver is broken.
func (d *Device) packet(ch *chain) (answer bool, err error) {
	if len(ch.write.parts) > 0 {
		return false, errSendBuffer
	}
	if ch.read.left < headerLen {
		return false, errShortPacket
	}
	var b [headerLen]byte
	ch.read.take(b[:])
	var h header
	h.decode(&b)
	if h.op == opData && uint64(h.length) > ch.read.left {
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
	switch c.receive(&h, &ch.read) {
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
