//go:build linux

package vhostuser

import (
	"slices"
	"sync"
	"time"
)

// patience is how long a function of [Conn.OnReadable] may keep the guest's
// other packets waiting: another goroutine looks at the ring after once to
// twice that.
const patience = 2 * time.Millisecond

// A leader is a goroutine that waits for packets of the guest, takes them, and
// calls the functions that connections have for what arrives: that no other
// thread must be woken for each packet is most of what makes a short request
// fast. While a function takes long, or says that it will, another goroutine
// leads in its stead.
type leader struct {
	d    *Device
	kick *kick

	mu    sync.Mutex // held for moments only; guards the rest
	term  int        // counts the goroutines that have led
	in    *Conn      // whose function runs
	news  []*Conn    // whose functions are next
	calls uint64     // of functions, all told
	seen  uint64     // calls when the timer last fired
	timer *time.Timer
	armed bool // the timer runs
	ended bool
}

// lead looks at the ring whenever the guest kicks, until k is closed.
func (d *Device) lead(k *kick) {
	l := &leader{d: d, kick: k}
	d.kicks.Add(1) // for whichever goroutine leads
	go l.run(0)
}

func (l *leader) run(term int) {
	yield := func() { l.yield(term) }
	for more := true; more || l.d.waitKick(l.kick); {
		more = l.look()
		if !l.callAll(term, yield) {
			return
		}
	}
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.kick.free()
	l.d.kicks.Done()
}

// look takes packets and reports whether there are more.
func (l *leader) look() bool {
	more, news := l.d.tx.pump()
	if len(news) > 0 {
		l.mu.Lock()
		l.news = append(l.news, news...)
		l.mu.Unlock()
	}
	return more
}

// callAll calls the functions that wait; false when another goroutine leads now.
func (l *leader) callAll(term int, yield func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.news) > 0 {
		c := l.news[0]
		l.news = slices.Delete(l.news, 0, 1)
		l.in = c
		l.calls++
		l.watch()
		l.mu.Unlock()
		c.call(yield)
		l.mu.Lock()
		if l.term != term {
			return false
		}
		l.in = nil
	}
	return true
}

// yield is called by a function that runs, and means the goroutine of a term.
func (l *leader) yield(term int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == term && l.in != nil {
		l.next()
	}
}

// next makes another goroutine lead. It calls the function that runs again: more
// may have come than that one has seen. l.mu is held.
func (l *leader) next() {
	l.news = slices.Insert(l.news, 0, l.in)
	l.in = nil
	l.term++
	go l.run(l.term)
}

// watch makes sure that the timer runs. l.mu is held.
func (l *leader) watch() {
	switch {
	case l.armed:
		return
	case l.timer == nil:
		l.timer = time.AfterFunc(patience, l.tick)
	default:
		l.timer.Reset(patience)
	}
	l.armed = true
}

// tick lets another goroutine lead if the same function runs as the last time,
// and rests when none was called since.
func (l *leader) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == l.seen {
		if l.in == nil || l.ended {
			l.armed = false
			return
		}
		l.next()
	}
	l.seen = l.calls
	l.timer.Reset(patience)
}

// OnReadable makes the device call f whenever there is something new to read by
// [Conn.TryRead], or the connection has ended; and once at the beginning. No
// data is announced twice: f reads until there is none left, or calls itself
// later. It may be called by several goroutines at a time, and after Close.
//
// f runs on the goroutine that takes the guest's packets, so that it should
// return soon. When it has read something, and is going to do what may take
// long, it calls yield: another goroutine takes them from then on, and calls f
// once more, as more may be there. If f takes milliseconds that happens anyway.
//
// It is called once, by a caller that does not use Read or WriteTo.
func (c *Conn) OnReadable(f func(yield func())) {
	c.readable.Store(&f)
	go f(func() {})
}

// call calls the function of OnReadable, if there is one.
func (c *Conn) call(yield func()) {
	if f := c.readable.Load(); f != nil {
		(*f)(yield)
	}
}

// TryRead is [Conn.Read] that does not wait: when there is nothing to read now
// it returns 0 and no error.
func (c *Conn) TryRead(p []byte) (int, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	c.mu.Lock()
	ready, err := c.data()
	if !ready {
		c.mu.Unlock()
		if err != nil {
			err = c.opError("read", err)
		}
		return 0, err
	}
	n := c.in.read(p)
	tell := c.consumed(n)
	c.mu.Unlock()
	if tell {
		c.d.rx.tell(c)
	}
	return n, nil
}
