//go:build linux

package virtio

import (
	"fmt"
	"runtime/debug"
)

// A queue is a ring whose chains are served by a device.
type queue struct {
	Ring
	d     *Device
	index int

	// Guarded by Ring.Mutex.
	life *life
	out  []bool // heads that are with the device
	late []used // answers that wait for the ring to run
	at   place  // where the ring runs, or last did

}

// used is an answer.
type used struct {
	head uint16
	n    int
}

// A place tells a ring that goes on from one that a driver has made anew.
type place struct {
	desc, avail, used uint64
	num               uint16
	next, usedIdx     uint16
}

func newQueue(d *Device, i int) *queue {
	return &queue{d: d, index: i, life: newLife(), out: make([]bool, maxRing)}
}

func (q *queue) place() place {
	return place{q.descAt, q.availAt, q.usedAt, q.num, q.Ring.next, q.usedIdx}
}

// started is called when the ring begins to run. If it is where it was, what the
// device did meanwhile is given back, else nobody waits for it. The ring is
// locked.
func (q *queue) started() {
	if q.place() != q.at {
		q.life.end()
		q.life = newLife()
		clear(q.out)
		q.late = nil
		q.at = q.place()
		return
	}
	for _, u := range q.late {
		q.give(u.head, u.n)
	}
	q.late = nil
	q.Signal()
	q.life.resume()
}

// stopped is called when QEMU has stopped the ring, and waits.
func (q *queue) stopped() {
	q.Lock()
	l := q.life
	q.Unlock()
	if !l.park(q.d.stopTime) {
		q.b.log.Warn("ring stopped while system calls use guest memory", "device", q.name)
	}
}

// halted is called when the ring has been stopped for good.
func (q *queue) halted() {
	q.Lock()
	l := q.life
	q.late, q.at = nil, place{} // no start goes on from here
	q.Unlock()
	l.end()
}

// next takes the next chain, or nil. The ring is locked.
func (q *queue) next() (*Chain, error) {
	if !q.Waiting() {
		return nil, nil
	}
	c := &Chain{q: q, life: q.life, mem: q.mem}
	ok, err := q.pop(&c.Buffer)
	if !ok || err != nil {
		return nil, err
	}
	if q.out[c.head] {
		return nil, fmt.Errorf("%s ring: descriptor %d is in use", q.name, c.head)
	}
	q.out[c.head] = true
	q.at.next = q.Ring.next
	c.mem.hold()
	c.own()
	return c, nil
}

// give pushes an answer. The ring is locked.
func (q *queue) give(head uint16, n int) {
	q.out[head] = false
	q.push(head, n)
	q.at.usedIdx = q.usedIdx
}

// done gives c back.
func (q *queue) done(c *Chain, n int) {
	q.Lock()
	defer q.Leave(debug.SetPanicOnFault(true))
	switch {
	case c.life != q.life:
	case q.running:
		q.give(c.head, n)
		q.Signal()
	case !q.broken:
		q.late = append(q.late, used{c.head, n})
	}
}
