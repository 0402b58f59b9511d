package hostfs

import (
	"math"

	"golang.org/x/sys/unix"
)

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

// WriteAt writes b, or as much as the file can take. A file that was opened
// with O_APPEND is written at its end, wherever off is.
func (f *File) WriteAt(b []byte, off int64, flags WriteFlags) (n int, err error) {
	room, err := f.begin(off, len(b), flags)
	if err != nil {
		return 0, err
	}
	if flags&AtEnd != 0 {
		return f.pieces([][]byte{b}, room, off, appendv)
	}
	return whole(room, func(n int) (int, error) { return unix.Pwrite(f.fd, b[n:room], off+int64(n)) })
}

// ReadV is ReadAt of many pieces of memory. Memory that there is not ends it
// early, and is EFAULT only if nothing was read.
func (f *File) ReadV(b [][]byte, off int64) (n int, err error) {
	return f.pieces(b, length(b), off, unix.Preadv)
}

// WriteV is WriteAt of many pieces of memory.
func (f *File) WriteV(b [][]byte, off int64, flags WriteFlags) (n int, err error) {
	room, err := f.begin(off, length(b), flags)
	if err != nil {
		return 0, err
	}
	do := unix.Pwritev
	if flags&AtEnd != 0 {
		do = appendv
	}
	return f.pieces(b, room, off, do)
}

func appendv(fd int, b [][]byte, _ int64) (int, error) {
	return unix.Pwritev2(fd, b, 0, unix.RWF_APPEND)
}

// pieces has do read or write the first size bytes of b.
func (f *File) pieces(b [][]byte, size int, off int64, do func(fd int, b [][]byte, off int64) (int, error)) (int, error) {
	var cut [][]byte
	return whole(size, func(n int) (int, error) {
		if n == 0 && size == length(b) && len(b) <= maxPieces {
			return do(f.fd, b, off)
		}
		cut = window(cut[:0], b, n, size)
		return do(f.fd, cut, off+int64(n))
	})
}

// window appends the pieces that are bytes from to end of b to w, as many as
// one system call takes.
func window(w, b [][]byte, from, end int) [][]byte {
	at := 0
	for _, p := range b {
		lo, hi := max(from-at, 0), min(end-at, len(p))
		if at += len(p); lo < hi {
			w = append(w, p[lo:hi])
		}
		if len(w) == maxPieces || at >= end {
			break
		}
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
		var m int
		err := again(func() (err error) { m, err = do(n); return err })
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

// begin returns how much of n bytes can be written at off.
func (f *File) begin(off int64, n int, flags WriteFlags) (int, error) {
	room, err := f.room(off, n, f.append || flags&AtEnd != 0)
	if err != nil {
		return 0, err
	}
	if n > 0 && flags&DropPrivilege != 0 && f.writable {
		return room, f.DropPrivilege()
	}
	return room, nil
}

// Room returns how much of n bytes can be written at off without the signal by
// which the kernel ends a process that writes too long a file; EFBIG if it is
// nothing.
func (f *File) Room(off int64, n int) (int, error) { return f.room(off, n, f.append) }

func (f *File) room(off int64, n int, atEnd bool) (int, error) {
	limit := f.node.tree.files.fsize
	if limit == math.MaxInt64 || n == 0 {
		return n, nil
	}
	if atEnd {
		st, err := f.Stat()
		if err != nil {
			return 0, err
		}
		off = st.Size
	}
	if off >= limit {
		return 0, unix.EFBIG
	}
	return int(min(int64(n), limit-off)), nil
}
