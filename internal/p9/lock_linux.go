package p9

import (
	"errors"
	"math"
	"time"

	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

// How often a lock is tried that somebody else on the host has. One that
// another client gives up is tried at once.
const (
	lockPollMin = 10 * time.Millisecond
	lockPollMax = 500 * time.Millisecond
)

// A lockOwner is a process of the client.
type lockOwner struct {
	proc   uint32
	client string
}

// A lockCall is what a client asks for.
type lockCall struct {
	fid   uint32
	lock  unix.Flock_t
	wait  bool
	owner lockOwner
	again bool // it was asked for before, and somebody else had it
}

// A lockTable has the locks of a connection. Its lock is taken after that of
// a fid.
type lockTable struct {
	hostfs.Locks[lockOwner]
	waiting int // requests that wait, guarded by the lock
}

// lock: fid[4] type[1] flags[4] start[8] length[8] proc_id[4] client_id[s]
// -> status[1]
func (r *request) lock() error {
	id, typ, flags := r.d.u32(), r.d.u8(), r.d.u32()
	start, length := r.d.u64(), r.d.u64()
	proc, client := r.d.u32(), r.d.str()
	if err := r.bad(); err != nil {
		return err
	}
	l, err := hostLock(typ, start, length)
	if err != nil {
		return err
	}
	if len(client) > hostfs.MaxName {
		return unix.EINVAL
	}
	call := lockCall{fid: id, lock: l, wait: flags&lockFlagBlock != 0, owner: lockOwner{proc, client}}
	poll := lockPollMin
	for {
		unlocked := r.c.s.unlocked.wait()
		sh, err := r.tryLock(call)
		switch {
		case err == nil:
			r.e.u8(lockSuccess)
			return nil
		case !busy(err):
			return err
		case !call.wait && !errors.Is(err, errHandOver) || !r.c.mayWait():
			r.e.u8(lockBlocked)
			return nil
		}
		call.again = true
		t := time.NewTimer(poll)
		poll = min(2*poll, lockPollMax)
		select {
		case <-t.C:
		case <-unlocked:
		case <-r.flushed:
			err = unix.EINTR
		case <-sh.Ended():
			err = errGone
		case <-r.c.ctx.Done():
			err = unix.EINTR
		}
		t.Stop()
		r.c.waited()
		if !busy(err) {
			return err
		}
	}
}

// busy reports whether a lock could not be taken as somebody else has it.
func busy(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) }

// mayWait takes one of the places for requests that wait for a lock: some
// workers must be left for the one that gives it up.
func (c *conn) mayWait() bool {
	c.locks.Lock()
	defer c.locks.Unlock()
	if c.locks.waiting >= c.s.config.MaxRequests/2 {
		return false
	}
	c.locks.waiting++
	return true
}

func (c *conn) waited() {
	c.locks.Lock()
	defer c.locks.Unlock()
	c.locks.waiting--
}

// tryLock takes or gives up a lock; EAGAIN means that somebody else has it.
func (r *request) tryLock(call lockCall) (*hostfs.Tree, error) {
	f, release, err := r.c.use(call.fid)
	if err != nil {
		return nil, err
	}
	defer release()
	if f.file == nil {
		return nil, unix.EBADF
	}
	t, file := &r.c.locks, f.file.File
	t.Lock()
	defer t.Unlock()
	unlock, whole := call.lock.Type == unix.F_UNLCK, hostfs.Whole(call.lock)
	if unlock && !t.Has(file, call.owner) {
		if whole && call.wait && t.unlockOpenFile(file) {
			r.c.s.unlocked.send()
		}
		return f.sh, nil
	}
	err = t.Set(file, call.owner, call.lock)
	if busy(err) && whole && len(t.rivals(file, call.owner)) > 0 {
		if err = errHandOver; call.again {
			t.handOver(file, call.owner)
			err = t.Set(file, call.owner, call.lock)
		}
	}
	if unlock {
		r.c.s.unlocked.send()
	}
	return f.sh, err
}

// dropLocks gives up the locks of processes that asked by no other fid.
func (c *conn) dropLocks(f *fid) {
	if f.file == nil {
		return
	}
	c.locks.Lock()
	defer c.locks.Unlock()
	if len(c.locks.Close(f.file.File)) > 0 {
		c.s.unlocked.send()
	}
}

// getlock: fid[4] type[1] start[8] length[8] proc_id[4] client_id[s]
// -> type[1] start[8] length[8] proc_id[4] client_id[s]
//
// The answer is a lock that is in the way, or one of type unlock.
func (r *request) getlock() error {
	id, typ := r.d.u32(), r.d.u8()
	start, length := r.d.u64(), r.d.u64()
	proc, client := r.d.u32(), r.d.str()
	if err := r.bad(); err != nil {
		return err
	}
	l, err := hostLock(typ, start, length)
	if err != nil {
		return err
	}
	if len(client) > hostfs.MaxName || typ == lockUnlock {
		return unix.EINVAL
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	if f.file == nil {
		return unix.EBADF
	}
	t := &r.c.locks
	t.Lock()
	defer t.Unlock()
	if err := t.Get(f.file.File, lockOwner{proc, client}, &l); err != nil {
		return err
	}
	e := &r.e
	switch l.Type {
	case unix.F_RDLCK:
		e.u8(lockRead)
	case unix.F_WRLCK:
		e.u8(lockWrite)
	default:
		e.u8(lockUnlock)
		e.u64(start)
		e.u64(length)
		e.u32(proc)
		e.str(client)
		return nil
	}
	e.u64(uint64(l.Start))
	e.u64(uint64(l.Len))
	e.u32(0) // the host does not say who
	e.str("")
	return nil
}

func hostLock(typ uint8, start, length uint64) (unix.Flock_t, error) {
	l := unix.Flock_t{Whence: 0, Start: int64(start), Len: int64(length)}
	switch typ {
	case lockRead:
		l.Type = unix.F_RDLCK
	case lockWrite:
		l.Type = unix.F_WRLCK
	case lockUnlock:
		l.Type = unix.F_UNLCK
	default:
		return l, unix.EINVAL
	}
	if start > math.MaxInt64 || length > math.MaxInt64 {
		return l, unix.EINVAL
	}
	return l, nil
}
