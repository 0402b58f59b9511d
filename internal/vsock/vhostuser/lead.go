//go:build linux

package vhostuser

import (
	"slices"

	"github.com/byrevm/byre/internal/virtio"
)

// A leader takes packets of the guest, and calls the functions that connections
// have for what arrives; see [virtio.Relay].
type leader struct {
	virtio.Relay
	d    *Device
	kick *virtio.Kick

	// Guarded by Relay.Mutex.
	in   *Conn   // whose function runs
	news []*Conn // whose functions are next
}

// lead looks at the ring whenever the guest kicks, until k is closed.
func (d *Device) lead(k *virtio.Kick) {
	l := &leader{d: d, kick: k}
	l.Lead, l.Handed = l.run, l.handed
	go l.run(0)
}

func (l *leader) run(term int) {
	yield := func() { l.Yield(term) }
	for more := true; more || l.d.b.Wait(l.kick); {
		more = l.look()
		if !l.callAll(term, yield) {
			return
		}
	}
	l.End()
	l.kick.Free()
}

// look takes packets and reports whether there are more.
func (l *leader) look() bool {
	more, news := l.d.tx.pump()
	if len(news) > 0 {
		l.Lock()
		l.news = append(l.news, news...)
		l.Unlock()
	}
	return more
}

// callAll calls the functions that wait; false when another goroutine leads now.
func (l *leader) callAll(term int, yield func()) bool {
	l.Lock()
	defer l.Unlock()
	for len(l.news) > 0 {
		c := l.news[0]
		l.news = slices.Delete(l.news, 0, 1)
		l.in = c
		l.Enter()
		l.Unlock()
		c.call(yield)
		l.Lock()
		if !l.Leave(term) {
			return false
		}
		l.in = nil
	}
	return true
}

// handed has who leads next call the function that runs again: more may have
// come than this call has seen.
func (l *leader) handed() {
	l.news = slices.Insert(l.news, 0, l.in)
	l.in = nil
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
