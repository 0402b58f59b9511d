package p9

import (
	"fmt"
	"slices"

	"github.com/byrevm/byre/internal/hostfs"
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

// rivals returns the processes other than owner whose lock is of the whole
// file, and that asked by f alone.
func (t *lockTable) rivals(f *hostfs.File, owner lockOwner) []lockOwner {
	return slices.DeleteFunc(t.Sole(f), func(o lockOwner) bool { return o == owner })
}

// handOver gives owner what other processes have by f: if owner has nothing,
// the lock of the first of them, so that it is not free in between.
func (t *lockTable) handOver(f *hostfs.File, owner lockOwner) {
	for _, other := range t.rivals(f, owner) {
		if t.Has(f, owner) {
			t.Drop(f, other)
		} else {
			t.Give(f, other, owner)
		}
	}
}

// unlockOpenFile gives up the locks of flock that f has, and reports whether it
// has any.
func (t *lockTable) unlockOpenFile(f *hostfs.File) bool {
	sole := t.Sole(f)
	for _, owner := range sole {
		t.Drop(f, owner)
	}
	return len(sole) > 0
}
