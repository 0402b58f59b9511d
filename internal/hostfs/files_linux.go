package hostfs

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Files counts the descriptors that trees, nodes, open files and locks have.
// More than there may be are ENFILE. Servers may share one.
type Files struct {
	max  int64
	held atomic.Int64
}

// NewFiles returns a count of at most limit descriptors. Zero stands for half
// of what the process may open now, 131072 at most.
func NewFiles(limit int) *Files {
	f := &Files{max: int64(limit)}
	if limit <= 0 {
		f.max = 1 << 17
		var r unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil {
			f.max = int64(min(uint64(f.max), max(r.Cur/2, 1)))
		}
	}
	return f
}

// Max returns how many descriptors there may be.
func (f *Files) Max() int { return int(f.max) }

// Held returns how many descriptors there are.
func (f *Files) Held() int { return int(f.held.Load()) }

// take counts the descriptor that open returns.
func (f *Files) take(open func() (int, error)) (int, error) {
	if f.held.Add(1) > f.max {
		f.held.Add(-1)
		return -1, unix.ENFILE
	}
	fd, err := retry(open)
	if err != nil {
		f.held.Add(-1)
		return -1, err
	}
	return fd, nil
}

// drop closes a descriptor that nothing was written to.
func (f *Files) drop(fd int) { _ = f.close(fd) }

// close closes a descriptor. The file system can have news of what was
// written.
func (f *Files) close(fd int) error {
	f.held.Add(-1)
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
