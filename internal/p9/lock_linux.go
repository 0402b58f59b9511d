package p9

import (
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How often a lock is tried that somebody else on the host has. One that
// another client gives up is tried at once.
const (
	lockPollMin = 10 * time.Millisecond
	lockPollMax = 500 * time.Millisecond
)

// A lockKey names a process of the client and a file.
type lockKey struct {
	dev, ino uint64
	proc     uint32
	client   string
}

// A lockOwner is an open file description of its own for the locks of one
// process on one file: as those of fcntl they count as one owner's, by
// whichever of its fids it asks. It lasts until the last of the fids that it
// was asked by has ended, or the process has unlocked the whole file.
type lockOwner struct {
	key      lockKey
	fd       int
	writable bool
	whole    bool // it has locked no part of the file
	fids     []*fid
}

// A lockCall is what a client asks for.
type lockCall struct {
	fid    uint32
	lock   unix.Flock_t
	wait   bool
	proc   uint32
	client string
	again  bool // it was asked for before, and somebody else had it
}

func (l *lockCall) whole() bool { return l.lock.Start == 0 && l.lock.Len == 0 }

// A lockTable has the owners of a connection.
type lockTable struct {
	mu      sync.Mutex // taken after that of a fid; guards the rest, fid.locks and the locks themselves
	owners  map[lockKey]*lockOwner
	held    int // fids of all owners
	waiting int // requests that wait
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
	if len(client) > maxName {
		return unix.EINVAL
	}
	call := lockCall{fid: id, lock: l, wait: flags&lockFlagBlock != 0, proc: proc, client: client}
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
		case <-sh.over:
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
	c.locks.mu.Lock()
	defer c.locks.mu.Unlock()
	if c.locks.waiting >= c.s.config.MaxRequests/2 {
		return false
	}
	c.locks.waiting++
	return true
}

func (c *conn) waited() {
	c.locks.mu.Lock()
	defer c.locks.mu.Unlock()
	c.locks.waiting--
}

// tryLock takes or gives up a lock; EAGAIN means that somebody else has it.
func (r *request) tryLock(call lockCall) (*share, error) {
	f, release, err := r.c.use(call.fid)
	if err != nil {
		return nil, err
	}
	defer release()
	if f.file == nil {
		return nil, unix.EBADF
	}
	t := &r.c.locks
	t.mu.Lock()
	defer t.mu.Unlock()
	key := lockKey{dev: f.node.dev, ino: f.node.ino, proc: call.proc, client: call.client}
	o, l := t.owners[key], call.lock
	if o == nil && l.Type == unix.F_UNLCK {
		if call.whole() && call.wait {
			t.unlockOpenFile(r.c.s, f)
		}
		return f.sh, nil
	}
	if o == nil {
		if o, err = t.newOwner(f, key, r.c.s.config.MaxFids); err != nil {
			return nil, err
		}
	}
	if t.held >= r.c.s.config.MaxFids && !slices.Contains(o.fids, f) && l.Type != unix.F_UNLCK {
		if len(o.fids) == 0 {
			t.drop(r.c.s, o)
		}
		return nil, unix.ENOLCK
	}
	err = o.set(l)
	if busy(err) && call.whole() && len(f.rivals(o)) > 0 {
		if err = errHandOver; call.again {
			o = t.handOver(r.c.s, f, o)
			err = o.set(l)
		}
	}
	if l.Type == unix.F_UNLCK {
		if call.whole() {
			t.drop(r.c.s, o)
		}
		r.c.s.unlocked.send()
		return f.sh, err
	}
	if err != nil {
		if len(o.fids) == 0 {
			t.drop(r.c.s, o)
		}
		return f.sh, err
	}
	o.whole = call.whole() && (o.whole || len(o.fids) == 0)
	if !slices.Contains(o.fids, f) {
		o.fids = append(o.fids, f)
		f.locks = append(f.locks, o)
		t.held++
	}
	return f.sh, nil
}

// set takes or gives up a lock without waiting.
func (o *lockOwner) set(l unix.Flock_t) error {
	if l.Type == unix.F_WRLCK && !o.writable {
		l.Type = unix.F_RDLCK
	}
	return again(func() error { return unix.FcntlFlock(uintptr(o.fd), unix.F_OFD_SETLK, &l) })
}

func (t *lockTable) newOwner(f *fid, key lockKey, limit int) (*lockOwner, error) {
	if len(t.owners) >= limit {
		return nil, unix.ENOLCK
	}
	o := &lockOwner{key: key}
	var err error
	if f.sh.writable() == nil {
		o.fd, err = f.node.open(unix.O_RDWR)
		o.writable = err == nil
	}
	if !o.writable {
		if o.fd, err = f.node.open(unix.O_RDONLY); err != nil {
			return nil, err
		}
	}
	if t.owners == nil {
		t.owners = make(map[lockKey]*lockOwner)
	}
	t.owners[key] = o
	return o, nil
}

// drop closes the description of an owner and with it all its locks.
func (t *lockTable) drop(s *Server, o *lockOwner) {
	for _, f := range o.fids {
		f.locks = slices.DeleteFunc(f.locks, func(l *lockOwner) bool { return l == o })
	}
	t.held -= len(o.fids)
	delete(t.owners, o.key)
	s.closeFile(o.fd)
}

// dropLocks gives up the locks of owners that have no other fid.
func (c *conn) dropLocks(f *fid) {
	t := &c.locks
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(f.locks) == 0 {
		return
	}
	for _, o := range slices.Clone(f.locks) {
		o.fids = slices.DeleteFunc(o.fids, func(l *fid) bool { return l == f })
		t.held--
		if len(o.fids) == 0 {
			t.drop(c.s, o)
		}
	}
	f.locks = nil
	c.s.unlocked.send()
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
	if len(client) > maxName || typ == lockUnlock {
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
	t.mu.Lock()
	defer t.mu.Unlock()
	fd := f.file.fd
	if o := t.owners[lockKey{dev: f.node.dev, ino: f.node.ino, proc: proc, client: client}]; o != nil {
		fd = o.fd
	}
	if err := again(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l) }); err != nil {
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
