package hostfs

import "golang.org/x/sys/unix"

// maxPieces is how many pieces of memory one system call takes.
const maxPieces = 1024

// WriteFlags say what a write does besides.
type WriteFlags uint32

const (
	// DropPrivilege is for what a user writes: see [File.DropPrivilege].
	DropPrivilege WriteFlags = 1 << iota

	// AtEnd writes at the end of the file, wherever the offset is, as O_APPEND
	// does.
	AtEnd
)

// ReadAt reads until b is full or the file ends, which is no error.
func (f *File) ReadAt(b []byte, off int64) (n int, err error) {
	return whole(len(b), func(n int) (int, error) { return unix.Pread(f.fd, b[n:], off+int64(n)) })
}

// WriteAt writes b, or as much as the file can take: EFBIG is past the longest
// file that this process may write, of which Go's runtime drops the signal.
// A file that was opened with O_APPEND is written at its end, wherever off is.
func (f *File) WriteAt(b []byte, off int64, flags WriteFlags) (n int, err error) {
	if err := f.begin(len(b), flags); err != nil {
		return 0, err
	}
	if flags&AtEnd != 0 {
		return f.pieces([][]byte{b}, off, appendv)
	}
	return whole(len(b), func(n int) (int, error) { return unix.Pwrite(f.fd, b[n:], off+int64(n)) })
}

// ReadV is ReadAt of many pieces of memory. Memory that there is not ends it
// early, and is EFAULT only if nothing was read.
func (f *File) ReadV(b [][]byte, off int64) (n int, err error) {
	return f.pieces(b, off, unix.Preadv)
}

// WriteV is WriteAt of many pieces of memory.
func (f *File) WriteV(b [][]byte, off int64, flags WriteFlags) (n int, err error) {
	if err := f.begin(length(b), flags); err != nil {
		return 0, err
	}
	do := unix.Pwritev
	if flags&AtEnd != 0 {
		do = appendv
	}
	return f.pieces(b, off, do)
}

func appendv(fd int, b [][]byte, _ int64) (int, error) {
	return unix.Pwritev2(fd, b, 0, unix.RWF_APPEND)
}

// pieces has do read or write all of b.
func (f *File) pieces(b [][]byte, off int64, do func(fd int, b [][]byte, off int64) (int, error)) (int, error) {
	var cut [][]byte
	return whole(length(b), func(n int) (int, error) {
		if n == 0 && len(b) <= maxPieces {
			return do(f.fd, b, off)
		}
		cut = window(cut[:0], b, n)
		return do(f.fd, cut, off+int64(n))
	})
}

// window appends what follows the first n bytes of b to w, as much as one
// system call takes.
func window(w, b [][]byte, n int) [][]byte {
	for _, p := range b {
		if len(p) <= n {
			n -= len(p)
			continue
		}
		if len(w) == maxPieces {
			break
		}
		w, n = append(w, p[n:]), 0
	}
	return w
}

func length(b [][]byte) (n int) {
	for _, p := range b {
		n += len(p)
	}
	return n
}

// whole has do go on after n bytes until there are size, it does no more, or
// it fails. An error after the first bytes is left for the next time.
func whole(size int, do func(n int) (int, error)) (n int, err error) {
	for n < size {
		m, err := retry(func() (int, error) { return do(n) })
		if m <= 0 || err != nil {
			if n > 0 || err == nil {
				break
			}
			return 0, err
		}
		n += m
	}
	return n, nil
}

// begin does what is to be done before n bytes are written.
func (f *File) begin(n int, flags WriteFlags) error {
	if n > 0 && flags&DropPrivilege != 0 && f.writable {
		return f.DropPrivilege()
	}
	return nil
}
