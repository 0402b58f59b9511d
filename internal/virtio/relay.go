//go:build linux

package virtio

import (
	"sync"
	"time"
)

// Patience is how long a job of a [Relay] may keep others waiting: another
// goroutine leads after once to twice that.
const Patience = 2 * time.Millisecond

// A Relay lets goroutines lead one after the other. The one that leads waits for
// kicks, looks at the ring, and does the jobs that it finds: that no other thread
// must be woken for each is most of what makes a short request fast. While a job
// takes long, or says that it will, another goroutine leads in its stead.
type Relay struct {
	Lead   func(term int) // what leads, until Leave says that another does
	Handed func()         // another is about to lead, while a job runs; may be nil

	sync.Mutex        // held for moments only; guards the rest, also in Handed
	term       int    // counts the goroutines that have led
	busy       bool   // a job runs
	jobs, seen uint64 // all told, and when the timer last fired
	timer      *time.Timer
	armed      bool // the timer runs
	ended      bool
}

// Enter begins a job. The Relay is locked.
func (l *Relay) Enter() {
	l.busy = true
	l.jobs++
	switch {
	case l.armed:
		return
	case l.timer == nil:
		l.timer = time.AfterFunc(Patience, l.tick)
	default:
		l.timer.Reset(Patience)
	}
	l.armed = true
}

// Leave ends a job of the goroutine of a term; false when another one leads by
// now. The Relay is locked.
func (l *Relay) Leave(term int) bool {
	if l.term != term {
		return false
	}
	l.busy = false
	return true
}

// Yield is called by a job that runs, and means the goroutine of a term.
func (l *Relay) Yield(term int) {
	l.Lock()
	defer l.Unlock()
	if l.term == term && l.busy {
		l.next()
	}
}

// End says that nobody leads any more.
func (l *Relay) End() {
	l.Lock()
	l.ended = true
	l.Unlock()
}

// next makes another goroutine lead.
func (l *Relay) next() {
	if l.Handed != nil {
		l.Handed()
	}
	l.busy = false
	l.term++
	go l.Lead(l.term)
}

// tick lets another goroutine lead if the same job runs as the last time, and
// rests when there was none since.
func (l *Relay) tick() {
	l.Lock()
	defer l.Unlock()
	if l.jobs == l.seen {
		if !l.busy || l.ended {
			l.armed = false
			return
		}
		l.next()
	}
	l.seen = l.jobs
	l.timer.Reset(Patience)
}
