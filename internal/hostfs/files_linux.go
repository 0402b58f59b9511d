package hostfs

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Files counts the descriptors that trees, nodes, open files and locks have.
// More than there may be are ENFILE. Servers may share one.
type Files struct {
	max  int64
	held atomic.Int64
	of   *Files // counts them too, unless it is nil
}

// NewFiles returns a count of at most limit descriptors. Zero stands for half
// of what the process may open, 131072 at most; all counts of that kind together
// have three quarters, so that the process itself never runs out of them.
func NewFiles(limit int) *Files {
	if limit > 0 {
		return &Files{max: int64(limit)}
	}
	all := process()
	return &Files{max: min(1<<17, max(all.max/3*2, 1)), of: all}
}

// process counts what all guests of this process have.
var process = sync.OnceValue(func() *Files {
	r := unix.Rlimit{Cur: 1 << 20}
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &r) // it fails for no process and this kind
	return &Files{max: int64(min(r.Cur, 1<<30) / 4 * 3)}
})

// Max returns how many descriptors there may be.
func (f *Files) Max() int { return int(f.max) }

// Held returns how many descriptors there are.
func (f *Files) Held() int { return int(f.held.Load()) }

// take counts the descriptor that open returns.
func (f *Files) take(open func() (int, error)) (int, error) {
	if !f.count() {
		return -1, unix.ENFILE
	}
	fd, err := retry(open)
	if err != nil {
		f.uncount()
		return -1, err
	}
	return fd, nil
}

// count counts one more, unless there are too many.
func (f *Files) count() bool {
	if f.held.Add(1) <= f.max && (f.of == nil || f.of.count()) {
		return true
	}
	f.held.Add(-1)
	return false
}

func (f *Files) uncount() {
	f.held.Add(-1)
	if f.of != nil {
		f.of.uncount()
	}
}

// drop closes a descriptor that nothing was written to.
func (f *Files) drop(fd int) { _ = f.close(fd) }

// close closes a descriptor. The file system can have news of what was
// written.
func (f *Files) close(fd int) error {
	f.uncount()
	return unix.Close(fd)
}

// again calls do until no signal interrupts it.
func again(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// retry is again of what returns a number, too.
func retry(do func() (int, error)) (n int, err error) {
	err = again(func() error { n, err = do(); return err })
	return n, err
}
