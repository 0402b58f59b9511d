//go:build linux

package virtio

import (
	"errors"
	"sync"
	"time"
)

// stopTime is how long QEMU is kept waiting for system calls on guest memory
// when it stops a ring.
const stopTime = 5 * time.Second

// errGone is what the memory of a chain answers that nobody waits for any more.
var errGone = errors.New("the guest's driver has gone")

// A life is what the chains of one queue have in common from when the driver
// starts until it is gone.
//
// QEMU stops a ring, and waits for that, when the VM is paused and when the
// driver resets the device, and does not say which. In the first case the guest
// expects an answer to each chain later: the ring starts again where it was. In
// the second one its memory is used for other things from then on. So chains
// that are under way neither end nor hold up QEMU, but none touches the memory
// until the ring starts, and shows which of the two it was. QEMU waits only for
// who is in the middle of it: a copy, or preadv and pwritev on the pieces that
// [Segments.Slice] gave out. Those may hang with the host's disk, and QEMU must
// not hang with it: after stopTime it goes on, and a driver that resets its
// device meanwhile may find what it asked for in the memory that it gave for it.
type life struct {
	gone chan struct{} // closed when it is over

	mu      sync.Mutex // held for moments only, taken after every other lock
	changed sync.Cond
	state   lifeState
	users   int // of the guest's memory
}

type lifeState int

const (
	lifeRuns   lifeState = iota
	lifeParked           // the ring was stopped
	lifeOver
)

func newLife() *life {
	l := &life{gone: make(chan struct{})}
	l.changed.L = &l.mu
	return l
}

// enter waits until guest memory may be touched, which keeps the ring from being
// stopped until leave.
func (l *life) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.state == lifeParked {
		l.changed.Wait()
	}
	if l.state == lifeOver {
		return errGone
	}
	l.users++
	return nil
}

func (l *life) leave() {
	l.mu.Lock()
	if l.users--; l.users == 0 && l.state != lifeRuns {
		l.changed.Broadcast()
	}
	l.mu.Unlock()
}

// park keeps everybody from guest memory; false when somebody is still there
// after that time.
func (l *life) park(limit time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == lifeOver {
		return true
	}
	l.state = lifeParked
	if l.users == 0 {
		return true
	}
	late := false
	t := time.AfterFunc(limit, func() {
		l.mu.Lock()
		late = true
		l.changed.Broadcast()
		l.mu.Unlock()
	})
	defer t.Stop()
	for l.users > 0 && !late {
		l.changed.Wait()
	}
	return l.users == 0
}

// resume undoes park.
func (l *life) resume() { l.become(lifeRuns) }

// end says that the driver is gone.
func (l *life) end() {
	if l.become(lifeOver) {
		close(l.gone)
	}
}

func (l *life) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state == lifeOver
}

func (l *life) become(s lifeState) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == s || l.state == lifeOver {
		return false
	}
	l.state = s
	l.changed.Broadcast()
	return true
}
