//go:build linux

package vhostuser

import (
	"os"
	"sync"
	"time"
)

var errTimeout = os.ErrDeadlineExceeded

// A deadline wakes a condition when its time comes. The condition's mutex
// guards it.
type deadline struct {
	expired bool
	timer   *time.Timer
	set     int // counts set, so that a timer which fires late is recognised
}

func (d *deadline) start(cond *sync.Cond, t time.Time) {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.set++
	d.expired = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.expired = true
		cond.Broadcast()
		return
	}
	this := d.set
	d.timer = time.AfterFunc(wait, func() {
		cond.L.Lock()
		defer cond.L.Unlock()
		if d.set == this {
			d.expired = true
			cond.Broadcast()
		}
	})
}

// SetDeadline sets the deadlines of Read and Write; see net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rdl.start(&c.rcond, t)
	c.wdl.start(&c.wcond, t)
	return nil
}

// SetReadDeadline sets the deadline of Read, also of one that waits. After it,
// reads fail with os.ErrDeadlineExceeded until it is set anew; nothing is lost.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rdl.start(&c.rcond, t)
	return nil
}

// SetWriteDeadline sets the deadline of Write, also of one that waits. A Write
// that it ends says how many bytes the guest has got.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wdl.start(&c.wcond, t)
	return nil
}
