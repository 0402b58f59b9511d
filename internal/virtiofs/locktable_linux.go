package virtiofs

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// What the locks of a guest may take.
const (
	maxLocks     = 16 << 10 // owners, and handles of all owners
	maxLockSpans = 64 << 10 // each is memory of the host's kernel

	// maxWaiters leaves chains of the ring, which are 1024, for those that
	// give up what is waited for.
	maxWaiters = 896
)

// Both mean that somebody else has the lock.
var (
	errGuestHas error = lockBusy("the guest has the lock")
	errHostHas  error = lockBusy("the host has the lock")
)

type lockBusy string

func (e lockBusy) Error() string { return string(e) }
func (e lockBusy) Unwrap() error { return unix.EAGAIN }

// busy reports whether a lock could not be taken as somebody else has it.
func busy(err error) bool { return errors.Is(err, unix.EAGAIN) }

// A lockTable has the files that are locked, or waited for.
type lockTable struct {
	host  hostfs.Locks[ownerKey] // its lock is taken after that of a lockFile
	spans atomic.Int64           // of all files

	mu      sync.Mutex // taken after that of a lockFile; held for moments; guards the rest
	files   map[hostfs.ID]*lockFile
	waiters []*waiter     // of all files, the first to come first
	changed chan struct{} // closed when that changes

	lives map[<-chan struct{}]*following // of rings whose chains wait

	answers sync.WaitGroup // goroutines that answer, and that wait for the end of a life
}

// An ownerKey names a process of the guest and a file, as the guest's kernel
// does.
type ownerKey struct{ node, owner uint64 }

// A lockFile has the locks of one file of the host, by whichever share it is
// reached. The first to wait is the first to be tried when something is given
// up; somebody who asks then, and can have it, does not queue, as with Linux. So
// no lock that Linux would have granted waits for one that it would not have.
type lockFile struct {
	t    *lockTable
	id   hostfs.ID
	refs int // calls under way, guarded by t.mu

	mu      sync.Mutex // held across system calls that do not wait; guards the rest
	holders map[ownerKey]*holder
	recent  ownerKey        // who last took something, or was in the way: the first to look at
	flocks  map[uint64]bool // by handle; true is exclusive
	queue   []*waiter
	through []*waiter // out of the queue, to be answered
	freed   bool      // something was given up that the queue has not seen

	timer *time.Timer
	armed bool // the timer runs
	poll  time.Duration
}

// A holder is a process of the guest that has locks of fcntl on a file.
type holder struct {
	pid   uint32 // who asked last
	spans spans
	count int // of them, in lockTable.spans
}

// A lockCall is what a lock is asked for, or given up, by.
type lockCall struct {
	handle uint64
	file   *hostfs.File // of the handle, as long as that is not released
	owner  ownerKey     // of fcntl
	pid    uint32       // who asks, as the guest counts
	flock  bool
	unlock bool
	span   span
}

// enter returns the locks of a file; with add false only if there are any.
// [lockTable.leave] follows.
func (t *lockTable) enter(file *hostfs.File, add bool) *lockFile {
	id := file.Node().ID()
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.files[id]
	if f == nil {
		if !add {
			return nil
		}
		f = &lockFile{t: t, id: id, holders: make(map[ownerKey]*holder), flocks: make(map[uint64]bool)}
		if t.files == nil {
			t.files = make(map[hostfs.ID]*lockFile)
			t.host.Max = maxLocks
		}
		t.files[id] = f
	}
	f.refs++
	return f
}

// leave forgets a file that has nothing and that nobody uses.
func (t *lockTable) leave(f *lockFile) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.refs--
	if f.refs == 0 && len(f.holders) == 0 && len(f.flocks) == 0 && len(f.queue) == 0 && t.files[f.id] == f {
		delete(t.files, f.id)
	}
}

// with calls do with a file's lock held, tries those who wait if something was
// given up, and answers those that are through.
func (t *lockTable) with(f *lockFile, do func() error) error {
	f.mu.Lock()
	err := do()
	f.sweep()
	f.watch()
	done := f.through
	f.through = nil
	f.mu.Unlock()
	t.answer(done)
	return err
}

// set takes or gives up a lock without waiting.
func (t *lockTable) set(c *lockCall) error {
	f := t.enter(c.file, true)
	defer t.leave(f)
	return t.with(f, func() error { return f.try(c) })
}

// get returns a lock that is in the way of c, and whose it is; zero for one of
// the host, whose numbers are not the guest's.
func (t *lockTable) get(c *lockCall) (l span, pid uint32, found bool, err error) {
	f := t.enter(c.file, true)
	defer t.leave(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	if h, l, found := f.rival(c); found {
		return l, h.pid, true, nil
	}
	host := c.span.host()
	t.host.Lock()
	err = t.host.Get(c.file, c.owner, &host)
	t.host.Unlock()
	if err != nil || host.Type == unix.F_UNLCK {
		return span{}, 0, false, err
	}
	return spanOf(host), 0, true, nil
}

// flush gives up all that an owner has of a file, as a process does that closes
// it.
func (t *lockTable) flush(file *hostfs.File, owner ownerKey) {
	f := t.enter(file, false)
	if f == nil {
		t.host.Lock()
		known := t.host.Has(file, owner) // a description is kept when the last part was unlocked
		t.host.Unlock()
		if !known {
			return
		}
		f = t.enter(file, true) // as the owner may lock meanwhile
	}
	defer t.leave(f)
	_ = t.with(f, func() error {
		t.host.Lock()
		defer t.host.Unlock()
		t.host.Drop(file, owner)
		f.forget(owner)
		return nil
	})
}

// release gives up what a handle has that is about to be closed: its own lock,
// and those of owners that have asked by no other. Who waits by it gets EBADF,
// or ESTALE if the share is gone.
func (t *lockTable) release(file *hostfs.File, handle uint64) {
	err := file.Node().Tree().Gone()
	if err == nil {
		err = unix.EBADF
	}
	f := t.enter(file, false)
	if f == nil {
		t.host.Lock()
		t.host.Close(file)
		t.host.Unlock()
		return
	}
	defer t.leave(f)
	_ = t.with(f, func() error {
		f.take(func(w *waiter) bool { return w.call.handle == handle }, err)
		if _, ok := f.flocks[handle]; ok {
			_ = f.unflock(handle, file)
		}
		t.host.Lock()
		defer t.host.Unlock()
		for _, owner := range t.host.Close(file) {
			f.forget(owner)
		}
		return nil
	})
}
