package virtiofs

import (
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// tryFlock takes or gives up the lock of flock that a handle has. As with
// Linux a handle that has one, and asks for another kind, has none if it
// cannot have that.
func (f *lockFile) tryFlock(c *lockCall) error {
	had, has := f.flocks[c.handle]
	if c.unlock {
		if has {
			return f.unflock(c.handle, c.file)
		}
		return nil
	}
	if f.flocked(c.handle, c.span.write) {
		if has && had != c.span.write {
			_ = f.unflock(c.handle, c.file)
		}
		return errGuestHas
	}
	how := unix.LOCK_SH
	if c.span.write {
		how = unix.LOCK_EX
	}
	err := c.file.Flock(how | unix.LOCK_NB)
	if busy(err) {
		err = errHostHas
		if has {
			delete(f.flocks, c.handle)
			f.freed = true
		}
	}
	if err != nil {
		return err
	}
	f.flocks[c.handle] = c.span.write
	f.freed = f.freed || had && !c.span.write
	return nil
}

// flocked reports whether a handle other than h has what keeps it from the lock.
func (f *lockFile) flocked(h uint64, write bool) bool {
	others := len(f.flocks)
	if _, has := f.flocks[h]; has {
		others--
	}
	if write || others == 0 {
		return others > 0
	}
	for other, exclusive := range f.flocks {
		if other != h {
			return exclusive // if one is shared all are
		}
	}
	return false
}

func (f *lockFile) unflock(h uint64, file *hostfs.File) error {
	delete(f.flocks, h)
	f.freed = true
	return file.Flock(unix.LOCK_UN)
}
