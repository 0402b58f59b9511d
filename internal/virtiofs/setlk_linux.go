package virtiofs

import (
	"math"

	"golang.org/x/sys/unix"
)

// lockIn takes the members of a request on locks: fh[8] owner[8] start[8] end[8]
// type[4] pid[4] lk_flags[4] padding[4]. The caller releases the handle.
func (r *request) lockIn() (*handle, lockCall, error) {
	fh, owner, first, last := r.d.u64(), r.d.u64(), r.d.u64(), r.d.u64()
	typ, pid, flags := r.d.u32(), r.d.u32(), r.d.u32()
	r.d.u32()
	c := lockCall{
		handle: fh, owner: ownerKey{r.node, owner}, pid: pid,
		flock: flags&lockFlock != 0, unlock: typ == unix.F_UNLCK,
		span: span{int64(first), int64(last), typ == unix.F_WRLCK},
	}
	if err := r.bad(); err != nil {
		return nil, c, err
	}
	switch {
	case typ != unix.F_RDLCK && typ != unix.F_WRLCK && typ != unix.F_UNLCK,
		first > last, last > math.MaxInt64, flags&^lockFlock != 0, c.flock && !c.span.whole():
		return nil, c, unix.EINVAL
	}
	h, err := r.s.handle(fh, r.node)
	if err != nil {
		return nil, c, err
	}
	c.file = h.file
	return h, c, nil
}

// getlk: the members of lockIn -> start[8] end[8] type[4] pid[4]
//
// The answer is a lock that is in the way, or the same range and "unlock".
func (r *request) getlk() error {
	h, c, err := r.lockIn()
	if err != nil {
		return err
	}
	defer h.release()
	if c.flock || c.unlock {
		return unix.EINVAL
	}
	l, pid, found, err := r.s.locks.get(&c)
	if err != nil {
		return err
	}
	typ := uint32(unix.F_UNLCK)
	switch {
	case !found:
		l = c.span
	case l.write:
		typ = unix.F_WRLCK
	default:
		typ = unix.F_RDLCK
	}
	r.e.u64(uint64(l.first))
	r.e.u64(uint64(l.last))
	r.e.u32(typ)
	r.e.u32(pid)
	return nil
}

// setlk: the members of lockIn -> nothing
func (r *request) setlk() error {
	h, c, err := r.lockIn()
	if err != nil {
		return err
	}
	defer h.release()
	return r.s.locks.set(&c)
}

// setlkw is setlk that waits.
func (r *request) setlkw() error {
	h, c, err := r.lockIn()
	if err != nil {
		return err
	}
	defer h.release()
	waits, err := r.s.locks.wait(&waiter{
		unique: r.unique, thread: r.pid, call: c, gone: r.c.Gone(), answer: r.answer,
	})
	if waits {
		return errLater
	}
	return err
}

// dropLocks gives up the locks of a handle that nobody uses any more.
func (s *Server) dropLocks(h *handle) { s.locks.release(h.file, h.id) }

// flushLocks gives up those of fcntl that a process has on the file of a handle,
// as it closes one.
func (s *Server) flushLocks(h *handle, owner uint64) {
	s.locks.flush(h.file, ownerKey{h.n.id, owner})
}

// Waiting returns the requests of the guest that wait for a lock, and a channel
// that is closed when others do.
func (s *Server) Waiting() ([]Waiter, <-chan struct{}) { return s.locks.waiting() }

// Interrupt ends the wait of a request, which fails with EINTR, and reports
// whether there was one. A request that does not wait for a lock goes on.
func (s *Server) Interrupt(unique uint64) bool { return s.locks.interrupt(unique) }
