package virtiofs

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A waiter is a request for a lock that somebody else has. It takes a chain of
// the ring and no goroutine. Whoever takes it out of its file's queue answers
// it.
type waiter struct {
	unique uint64
	thread uint32
	file   *lockFile
	call   lockCall
	err    error // the answer
	byHost bool  // the host has the lock, not the guest itself

	gone   <-chan struct{} // closed when nobody waits for the answer any more
	answer func(error)
}

// How often a lock is tried that somebody else on the host has. One that the
// guest itself gives up is tried at once.
const (
	lockPollMin = 10 * time.Millisecond
	lockPollMax = 500 * time.Millisecond
)

// A Waiter is a request of the guest that waits for a lock.
type Waiter struct {
	Unique uint64 // of the request
	Thread uint32 // of the guest that made it, as its kernel counts
}

// waiting returns who waits, and what is closed when that has changed.
func (t *lockTable) waiting() ([]Waiter, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Waiter, len(t.waiters))
	for i, w := range t.waiters {
		list[i] = Waiter{Unique: w.unique, Thread: w.thread}
	}
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return list, t.changed
}

// change tells who looks. t.mu is held.
func (t *lockTable) change() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// interrupt ends the wait of a request and reports whether it did wait.
func (t *lockTable) interrupt(unique uint64) bool {
	return t.cancel(func(w *waiter) bool { return w.unique == unique }) > 0
}

// interruptAll is interrupt of all requests.
func (t *lockTable) interruptAll() { t.cancel(func(*waiter) bool { return true }) }

// cancel ends the waits of those that match, and returns how many.
func (t *lockTable) cancel(match func(*waiter) bool) (n int) {
	var files []*lockFile
	t.mu.Lock()
	for _, w := range t.waiters {
		if match(w) && !slices.Contains(files, w.file) {
			w.file.refs++
			files = append(files, w.file)
		}
	}
	t.mu.Unlock()
	for _, f := range files {
		_ = t.with(f, func() error {
			n += f.take(match, unix.EINTR)
			return nil
		})
		t.leave(f)
	}
	return n
}

// wait takes or gives up a lock. If somebody else has it w waits, and is
// answered by whoever ends that; the error is nil then, and waits is true.
func (t *lockTable) wait(w *waiter) (waits bool, err error) {
	f := t.enter(w.call.file, true)
	defer t.leave(f)
	err = t.with(f, func() error {
		err := f.try(&w.call)
		if busy(err) {
			w.file, w.byHost, err = f, errors.Is(err, errHostHas), nil
			if waits = f.enqueue(w); !waits {
				err = unix.ENOLCK
			}
		}
		return err
	})
	return waits, err
}

func (f *lockFile) enqueue(w *waiter) bool {
	f.t.mu.Lock()
	full := len(f.t.waiters) >= maxWaiters
	if !full {
		f.t.waiters = append(f.t.waiters, w)
		f.t.follow(w.gone)
		f.t.change()
	}
	f.t.mu.Unlock()
	if full {
		return false
	}
	f.queue = append(f.queue, w)
	if w.byHost && f.armed && f.poll > lockPollMin {
		f.armed = false
	}
	if !f.armed {
		f.poll = lockPollMin
	}
	return true
}

// take moves those that match from the queue to f.through, with their answer.
func (f *lockFile) take(match func(*waiter) bool, err error) (n int) {
	f.queue = slices.DeleteFunc(f.queue, func(w *waiter) bool {
		if !match(w) {
			return false
		}
		n++
		f.end(w, err)
		return true
	})
	return n
}

// end is of a waiter that leaves the queue.
func (f *lockFile) end(w *waiter, err error) {
	w.err = err
	f.through = append(f.through, w)
	f.t.mu.Lock()
	i := slices.Index(f.t.waiters, w)
	f.t.waiters = slices.Delete(f.t.waiters, i, i+1)
	f.t.unfollow(w.gone)
	f.t.change()
	f.t.mu.Unlock()
}

// sweep tries those who wait if something was given up: the first first.
func (f *lockFile) sweep() {
	for f.freed && len(f.queue) > 0 {
		f.freed = false // a lock that one of them takes may free another part
		f.queue = slices.DeleteFunc(f.queue, func(w *waiter) bool {
			err := w.call.file.Node().Tree().Gone()
			if err == nil {
				err = f.try(&w.call)
			}
			if w.byHost = errors.Is(err, errHostHas); busy(err) {
				return false
			}
			f.end(w, err)
			return true
		})
	}
	f.freed = false
}

// answer tells waiters how it ended. It does not wait for that, which lasts as
// long as the VM is paused. A lock that the guest will not hear of is given up.
func (t *lockTable) answer(done []*waiter) {
	if len(done) == 0 {
		return
	}
	t.answers.Go(func() {
		for _, w := range done {
			select {
			case <-w.gone:
				if w.err == nil {
					w.call.unlock = true
					_ = t.set(&w.call)
				}
			default:
			}
			w.answer(w.err)
		}
	})
}

// A following ends the waits of chains that nobody waits for any more.
type following struct {
	waiters int
	stop    chan struct{}
}

// follow is of a waiter that begins to wait. t.mu is held.
func (t *lockTable) follow(gone <-chan struct{}) {
	l := t.lives[gone]
	if l == nil {
		l = &following{stop: make(chan struct{})}
		if t.lives == nil {
			t.lives = make(map[<-chan struct{}]*following)
		}
		t.lives[gone] = l
		t.answers.Go(func() {
			select {
			case <-gone:
				t.cancel(func(w *waiter) bool { return w.gone == gone })
			case <-l.stop:
			}
		})
	}
	l.waiters++
}

// unfollow is of one that waits no more. t.mu is held.
func (t *lockTable) unfollow(gone <-chan struct{}) {
	l := t.lives[gone]
	if l.waiters--; l.waiters == 0 {
		delete(t.lives, gone)
		close(l.stop)
	}
}

// watch makes sure that a lock which the host has is tried again.
func (f *lockFile) watch() {
	if f.armed || !slices.ContainsFunc(f.queue, func(w *waiter) bool { return w.byHost }) {
		return
	}
	f.armed = true
	if f.timer == nil {
		f.timer = time.AfterFunc(f.poll, f.tick)
	} else {
		f.timer.Reset(f.poll)
	}
}

func (f *lockFile) tick() {
	f.t.mu.Lock()
	f.refs++
	f.t.mu.Unlock()
	defer f.t.leave(f)
	_ = f.t.with(f, func() error {
		f.armed, f.freed = false, true
		f.poll = min(2*f.poll, lockPollMax)
		return nil
	})
}
