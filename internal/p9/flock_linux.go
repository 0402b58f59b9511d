package p9

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A client does not say whether a lock is of fcntl, which belongs to a
// process, or of flock, which belongs to an open file: whoever has that can
// change the lock and give it up, as flock(1) does for the shell that started
// it. But it keeps its processes apart itself, among those that have one open
// file. If a whole file is locked by one process, and by the same fid
// another one
//
//   - wants the lock too, then either it is a lock of flock, which the other
//     process now has, or the client has not yet told that the first gave it up;
//   - gives up what it does not have, then it is a lock of flock if the request
//     may wait, as those of flock do; a request that may not comes from a process
//     that ends or closes the file.

// errHandOver is EAGAIN where the lock is handed over at the next attempt,
// unless it was given up by then.
var errHandOver = fmt.Errorf("locked by another process that has the same fid: %w", unix.EAGAIN)

// rivals returns the owners other than o whose lock is of the whole file, and
// that asked by f alone.
func (f *fid) rivals(o *lockOwner) (r []*lockOwner) {
	for _, other := range f.locks {
		if other != o && other.whole && len(other.fids) == 1 {
			r = append(r, other)
		}
	}
	return r
}

// handOver gives o what other owners have by f. It returns what o is from
// then on: if o had nothing, the first of them, so that its lock is not free
// in between.
func (t *lockTable) handOver(s *Server, f *fid, o *lockOwner) *lockOwner {
	for _, other := range f.rivals(o) {
		if len(o.fids) > 0 {
			t.drop(s, other)
			continue
		}
		t.drop(s, o)
		delete(t.owners, other.key)
		other.key = o.key
		t.owners[other.key] = other
		o = other
	}
	return o
}

// unlockOpenFile gives up the locks of flock that f has.
func (t *lockTable) unlockOpenFile(s *Server, f *fid) {
	for _, o := range f.rivals(nil) {
		t.drop(s, o)
		s.unlocked.send()
	}
}
