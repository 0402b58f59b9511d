//go:build linux

package vhostuser

import (
	"io"
	"math/bits"
	"syscall"

	"github.com/byrevm/byre/internal/virtio"
	"github.com/byrevm/byre/internal/vsock"
)

// A verdict is what a packet means for the connection's place in the device.
type verdict int

const (
	keep   verdict = iota
	tell           // there are control packets to send
	forget         // the connection is over on both ends
	refuse         // it is over, and the guest must be told
)

// receive takes a packet of the guest, whose payload of h.length bytes is next
// in body. The device holds its lock on guest memory.
func (c *Conn) receive(h *header, body *virtio.Segments) verdict {
	c.mu.Lock()
	defer c.mu.Unlock() // also when the guest's memory faults
	if c.gone {
		return keep
	}
	if h.op == opReset {
		err := error(syscall.ECONNRESET)
		if c.dialing {
			err = syscall.ECONNREFUSED
		}
		c.end(err)
		return forget
	}
	if !c.credited(h) || c.dialing != (h.op == opResponse) {
		return c.violated()
	}
	v := keep
	switch h.op {
	case opResponse:
		c.dialing = false
		close(c.answer)
	case opData:
		if !c.store(h.length, body) {
			return c.violated()
		}
	case opShutdown:
		c.peerShut |= h.flags & shutBoth
		c.rcond.Broadcast()
		c.wcond.Broadcast()
		if c.peerShut == shutBoth {
			c.end(io.EOF)
			return refuse
		}
	case opCreditUpdate:
	case opCreditRequest:
		c.pending |= 1 << opCreditUpdate
		v = tell
	default: // also a second request
		return c.violated()
	}
	return v
}

// violated ends a connection whose guest end broke the protocol.
func (c *Conn) violated() verdict {
	c.end(syscall.ECONNRESET)
	return refuse
}

// store takes n bytes of the guest; false when it had no credit for them or has
// said that no more would come.
func (c *Conn) store(n uint32, body *virtio.Segments) bool {
	if c.peerShut&shutSend != 0 || int64(n) > int64(bufAlloc-c.in.n) {
		return false
	}
	if c.shut&shutRecv != 0 {
		c.fwd += n
		return true
	}
	empty := c.in.n == 0
	c.in.grow(int(n))
	for left := int(n); left > 0; {
		p := body.Chunk(left)
		c.in.write(p)
		left -= len(p)
	}
	if empty {
		c.rcond.Broadcast()
	}
	return true
}

// credited takes what the guest says of its receive buffer, in every packet;
// false when it claims to have read more than was sent.
func (c *Conn) credited(h *header) bool {
	if int32(c.sent-h.fwdCnt) < 0 {
		return false
	}
	alloc := min(h.bufAlloc, maxCredit)
	if alloc == c.peerAlloc && h.fwdCnt == c.peerFwd {
		return true
	}
	c.peerAlloc = alloc
	if int32(h.fwdCnt-c.peerFwd) > 0 { // guests' CPUs race; an older count says nothing
		c.peerFwd = h.fwdCnt
	}
	c.asked = false
	if c.credit() > 0 {
		c.wcond.Broadcast()
	}
	return true
}

// credit is how many bytes the guest has room for.
func (c *Conn) credit() int {
	return max(0, int(c.peerAlloc)-int(c.sent-c.peerFwd))
}

// reserve counts up to n bytes as sent and returns how many, with the header of
// their packets, or why there are none. The outbox holds its lock.
func (c *Conn) reserve(n int) (h header, got int, w waitFor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeError() != nil || c.dialing {
		return h, 0, waitNever
	}
	if got = min(n, c.credit()); got == 0 {
		if !c.asked {
			c.asked = true
			c.pending |= 1 << opCreditRequest
		}
		return h, 0, waitCredit
	}
	c.turn = false
	c.sent += uint32(got)
	return c.header(opData), got, waitNothing
}

// refund takes back n reserved bytes that found no room.
func (c *Conn) refund(n int) {
	if n > 0 {
		c.mu.Lock()
		c.sent -= uint32(n)
		c.mu.Unlock()
	}
}

// yourTurn wakes the Write that waits for room.
func (c *Conn) yourTurn() {
	c.mu.Lock()
	if !c.turn {
		c.turn = true
		c.wcond.Broadcast()
	}
	c.mu.Unlock()
}

// header starts a packet to the guest, which is told of our buffer on the way.
// c.mu is held.
func (c *Conn) header(op uint16) header {
	c.told = c.fwd
	c.pending &^= 1 << opCreditUpdate
	return header{
		srcCID: uint64(vsock.CIDHost), dstCID: c.d.cid,
		srcPort: c.local, dstPort: c.remote,
		typ: typeStream, op: op,
		bufAlloc: bufAlloc, fwdCnt: c.fwd,
	}
}

func (c *Conn) hasPending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.gone && c.pending != 0
}

// nextPending makes the control packet that goes next: by rising op, but news
// about the buffer before the end of the stream does no harm.
func (c *Conn) nextPending() (header, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.pending == 0 {
		return header{}, false
	}
	op := uint16(bits.TrailingZeros32(c.pending))
	c.pending &^= 1 << op
	h := c.header(op)
	if op == opShutdown {
		h.flags = c.shutFlags()
		c.shutSent = h.flags
	}
	return h, true
}

// end marks the connection as unknown to the guest; io.EOF is the orderly way.
// What was received stays readable. c.mu is held.
func (c *Conn) end(err error) {
	if c.gone {
		return
	}
	c.gone, c.err, c.pending = true, err, 0
	if c.dialing {
		c.dialing, c.refused = false, true
		close(c.answer)
	}
	if c.linger != nil {
		c.linger.Stop()
	}
	c.rcond.Broadcast()
	c.wcond.Broadcast()
	if c.readable.Load() != nil {
		go c.call(func() {})
	}
}

// fail ends a connection that the device took from its table.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	c.end(err)
	c.mu.Unlock()
}

// expire resets a closed connection that the guest did not let go of.
func (c *Conn) expire() { c.d.abort(c, syscall.ECONNRESET) }
