//go:build linux

package vhostuser

import (
	"runtime/debug"
	"slices"

	"github.com/byrevm/byre/internal/virtio"
)

// maxResets bounds the resets that wait for the guest; further ones are lost, to
// the harm of that guest only.
const maxResets = 1024

// maxBatch is how many payload bytes one connection may send before others that
// wait get a turn.
const maxBatch = 64 << 10

// An outbox is the way to the guest: the ring of buffers that the guest posts
// for packets from the host (virtqueue 0). Control packets go first; each
// connection is in the list at most once and makes its packets when there is
// room, so the list needs no other bound. Data goes straight from the writer's
// buffer to the guest's; writers that find no room queue up.
type outbox struct {
	virtio.Ring
	d *Device

	// Guarded by Ring.Mutex.
	resets  []header
	control []*Conn
	writers []*Conn
}

// waitFor is why a write stopped short.
type waitFor int

const (
	waitNothing waitFor = iota // all is sent, or another piece can go at once
	waitCredit                 // the guest's reader must take something
	waitTurn                   // room in the ring, and its turn
	waitNever                  // the connection cannot be written
)

// list makes c's pending control packets go with the next flush.
func (x *outbox) list(c *Conn) {
	x.Lock()
	x.enlist(c)
	x.Unlock()
}

func (x *outbox) enlist(c *Conn) {
	if !c.listed {
		c.listed = true
		x.control = append(x.control, c)
	}
}

// refuse queues a reset that belongs to no connection.
func (x *outbox) refuse(h header) {
	x.Lock()
	if len(x.resets) < maxResets {
		x.resets = append(x.resets, h)
	}
	x.Unlock()
}

// tell sends c's pending control packets as soon as there is room.
func (x *outbox) tell(c *Conn) {
	x.Lock()
	defer x.Leave(debug.SetPanicOnFault(true))
	x.enlist(c)
	x.rest()
}

// pump sends what is pending: after a kick, and at the end of a batch of
// packets from the guest.
func (x *outbox) pump() {
	x.Lock()
	defer x.Leave(debug.SetPanicOnFault(true))
	x.rest()
}

// rest ends every use of the ring. Whatever waits then is either woken or has
// been promised a kick: others may have taken the buffers that the last kick
// was about.
func (x *outbox) rest() {
	if !x.Running() {
		return
	}
	if x.flush() && len(x.writers) > 0 {
		if !x.Waiting() {
			x.WantKick()
		}
		if x.Waiting() {
			x.wake()
		}
	}
	if x.Running() {
		x.Signal()
	}
}

// flush sends the control packets; false when some remain.
func (x *outbox) flush() bool {
	if !x.Running() {
		return false
	}
	n := 0
	for n < len(x.resets) && x.send(&x.resets[n], nil) {
		n++
	}
	x.resets = slices.Delete(x.resets, 0, n)
	if len(x.resets) > 0 {
		return false
	}
	n = 0
	for n < len(x.control) && x.flushConn(x.control[n]) {
		x.control[n].listed = false
		n++
	}
	x.control = slices.Delete(x.control, 0, n)
	return len(x.control) == 0
}

// flushConn sends c's control packets; false when some remain. A packet is made
// only when a buffer for it is there.
func (x *outbox) flushConn(c *Conn) bool {
	for c.hasPending() {
		if !x.take() {
			return false
		}
		h, ok := c.nextPending()
		if !ok { // reset meanwhile
			x.Unpop()
			return true
		}
		x.fill(&h, nil)
	}
	return true
}

// write sends a piece of p for c and returns its length and what the rest must
// wait for.
func (x *outbox) write(c *Conn, p []byte) (n int, w waitFor) {
	x.Lock()
	defer x.Leave(debug.SetPanicOnFault(true))
	if c.hasPending() { // its response goes before its data
		x.enlist(c)
	}
	if len(x.writers) > 0 && x.writers[0] != c || !x.flush() {
		w = waitTurn
	} else {
		n, w = x.writeNow(c, p)
	}
	switch {
	case w == waitTurn:
		x.queue(c)
	case w != waitNothing:
		x.dequeue(c)
	case len(x.writers) > 0: // it was the first
		x.dequeue(c)
		if n < len(p) && len(x.writers) > 0 {
			x.queue(c)
			w = waitTurn
		}
	}
	x.rest()
	return n, w
}

// writeNow is write when it is c's turn.
func (x *outbox) writeNow(c *Conn, p []byte) (n int, w waitFor) {
	h, credit, w := c.reserve(min(len(p), maxBatch))
	if w == waitCredit {
		x.enlist(c) // it asks for credit
	}
	if w != waitNothing {
		return 0, w
	}
	for n < credit {
		m, ok := x.sendData(&h, p[n:credit])
		if !ok {
			w = waitTurn
			break
		}
		n += m
	}
	c.refund(credit - n)
	return n, w
}

// queue puts c among the writers that wait, if it is not there.
func (x *outbox) queue(c *Conn) {
	if !slices.Contains(x.writers, c) {
		x.writers = append(x.writers, c)
	}
}

// dequeue takes c from the writers that wait and wakes the next one.
func (x *outbox) dequeue(c *Conn) {
	i := slices.Index(x.writers, c)
	if i < 0 {
		return
	}
	x.writers = slices.Delete(x.writers, i, i+1)
	if i == 0 {
		x.wake()
	}
}

// quit is dequeue for a writer that gives up.
func (x *outbox) quit(c *Conn) {
	x.Lock()
	x.dequeue(c)
	x.Unlock()
}

func (x *outbox) wake() {
	if len(x.writers) > 0 {
		x.writers[0].yourTurn()
	}
}

// take gets a buffer of the guest into x.Buf; when there is none, the guest
// will kick once it has posted some.
func (x *outbox) take() bool {
	if !x.Running() {
		return false
	}
	ok, err := x.Pop()
	if !ok && err == nil {
		x.WantKick()
		ok, err = x.Pop()
	}
	if err == nil && ok && (x.Buf.In.Len() > 0 || x.Buf.Out.Len() < headerLen) {
		err = errReceiveBuffer
	}
	if err != nil {
		x.Fail()
		x.d.b.Stop(err)
		return false
	}
	if ok {
		x.NeedNoKick()
	}
	return ok
}

// fill writes a packet to x.Buf, as much of p as fits, and gives it back.
func (x *outbox) fill(h *header, p []byte) int {
	n := min(len(p), x.Buf.Out.Len()-headerLen)
	h.length = uint32(n)
	var b [headerLen]byte
	h.encode(&b)
	_ = x.Buf.Out.Put(b[:]) // there is room
	_ = x.Buf.Out.Put(p[:n])
	x.Push(headerLen + n)
	return n
}

func (x *outbox) send(h *header, p []byte) bool {
	if !x.take() {
		return false
	}
	x.fill(h, p)
	return true
}

// sendData sends one data packet. A buffer with no room for payload would make
// the writer spin through the guest's ring, and is refused.
func (x *outbox) sendData(h *header, p []byte) (int, bool) {
	if !x.take() {
		return 0, false
	}
	if x.Buf.Out.Len() == headerLen {
		x.Fail()
		x.d.b.Stop(errReceiveBuffer)
		return 0, false
	}
	return x.fill(h, p), true
}

// drop forgets everything that waits; the guest's driver is gone.
func (x *outbox) drop() {
	for _, c := range x.control {
		c.listed = false
	}
	clear(x.control)
	clear(x.writers)
	x.resets, x.control, x.writers = x.resets[:0], x.control[:0], x.writers[:0]
}
