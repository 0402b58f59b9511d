//go:build linux

package virtio

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
)

// A Chain is a request of the guest's driver: what it sent is In, and room for
// the answer is Out. Both are valid until Done, and stay mapped as long, whatever
// QEMU does. Until then one goroutine at a time uses it.
type Chain struct {
	Buffer
	q      *queue // nil: it belongs to no ring, see NewChain
	life   *life
	mem    *memory // holds a reference
	room   int     // bytes of Out
	pinned bool    // it is a user of life, until Done

	yielded atomic.Bool
	counts  room   // guarded by Device.mu
	yield   func() // of who leads; nil for others
	over    atomic.Bool
	done    func(n int, err error) // without a ring
}

// NewChain returns a chain that belongs to no ring, for tests of what serves
// chains. done is called by Done and Fail.
func NewChain(in, out [][]byte, done func(n int, err error)) *Chain {
	c := &Chain{Buffer: *NewBuffer(in, out), done: done, life: newLife()}
	c.own()
	return c
}

func (c *Chain) own() {
	c.In.of, c.Out.of = c, c
	c.room = c.Out.left
}

// Gone is closed when nobody waits for the answer any more: the driver has gone,
// or the device ends. What waits for a long time should end then, and call Done.
func (c *Chain) Gone() <-chan struct{} { return c.life.gone }

// Yield says that what Serve does for this chain from now on may take long. It
// does not count among the calls that a device makes at a time then, unless many
// have done so. A second call does nothing.
func (c *Chain) Yield() {
	if c.yielded.Swap(true) || c.q == nil {
		return
	}
	if c.yield != nil {
		c.yield()
	}
	c.q.d.move(&c.counts, roomYielded)
}

// Done gives the chain back with n bytes of Out written, and interrupts the guest
// if it wants to know. Afterwards the chain must not be used; a second call
// panics. While the ring is stopped the answer waits for it to start again; when
// the driver has gone it is dropped.
func (c *Chain) Done(n int) {
	if n < 0 || n > c.room {
		panic(fmt.Sprintf("virtio: %d bytes written where there is room for %d", n, c.room))
	}
	c.end()
	if c.q == nil {
		c.done(n, nil)
		return
	}
	c.q.done(c, n)
	c.free()
}

// Fail is Done for a chain that shows that the guest's driver is broken: the
// device ends with err. It is also for errors of Take and Put, and does nothing
// but drop a chain whose driver has gone.
func (c *Chain) Fail(err error) {
	c.end()
	if c.q == nil {
		c.done(0, err)
		return
	}
	if !c.life.isOver() {
		c.q.d.b.Stop(fmt.Errorf("%s ring: %w", c.q.name, err))
	}
	c.free()
}

// end is where a chain ends, once.
func (c *Chain) end() {
	if c.over.Swap(true) {
		panic("virtio: chain given back twice")
	}
	if c.pinned {
		c.pinned = false
		c.life.leave()
	}
}

// free lets go of the memory.
func (c *Chain) free() {
	c.reset()
	if err := c.mem.release(); err != nil {
		c.q.d.b.log.Warn("guest memory not released", "device", c.q.name, "err", err)
	}
}

// enter begins to touch the chain's memory.
func (c *Chain) enter() error {
	if c.pinned {
		return nil
	}
	return c.life.enter()
}

var errFault = errors.New("fault in the guest's memory")

// leave ends what enter began; it is deferred with the goroutine's former fault
// setting.
func (c *Chain) leave(old bool, err *error) {
	debug.SetPanicOnFault(old)
	v := recover()
	if !c.pinned {
		c.life.leave()
	}
	if v != nil {
		*err = errFault
		if c.q == nil {
			panic(v)
		}
		c.q.d.b.fault(v)
	}
}

// pin lets the chain's memory be touched until Done.
func (c *Chain) pin() error {
	if c.pinned {
		return nil
	}
	err := c.life.enter()
	c.pinned = err == nil
	return err
}
