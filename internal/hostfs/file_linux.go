package hostfs

import (
	"sync"

	"golang.org/x/sys/unix"
)

// A File is a regular file or a folder that is open. Its methods are safe for
// concurrent use, until Close. It has a reference to its node, but does not
// need the node's descriptor.
type File struct {
	node     *Node
	fd       int
	writable bool
	append   bool

	dirMu sync.Mutex // guards pos
	pos   int64      // of the folder's descriptor
}

// newFile takes over n and fd.
func newFile(n *Node, fd, flags int) *File {
	return &File{node: n, fd: fd, writable: flags&unix.O_ACCMODE != 0, append: flags&unix.O_APPEND != 0}
}

// Node returns what is open. It lasts until Close; who needs it longer calls
// [Node.Ref] before.
func (f *File) Node() *Node { return f.node }

// FD returns the descriptor, which stays the file's.
func (f *File) FD() int { return f.fd }

// Writable returns why nothing can be written to the file: EROFS in a tree that
// is read-only, EBADF if it is not open for that.
func (f *File) Writable() error {
	if err := f.node.tree.Writable(); err != nil {
		return err
	}
	if !f.writable {
		return unix.EBADF
	}
	return nil
}

// Close is called once, when nobody uses the file any more. Whatever locks it
// has by Flock are given up. The error is the file system's news of what was
// written.
func (f *File) Close() error {
	err := f.node.tree.files.close(f.fd)
	f.node.Unref()
	return err
}

// Stat returns its attributes, as [Node.Stat] does.
func (f *File) Stat() (unix.Stat_t, error) {
	return fstat(f.fd)
}

// Sync waits until what was written is on the disk, or what is needed to read
// it.
func (f *File) Sync(dataOnly bool) error {
	sync := unix.Fsync
	if dataOnly {
		sync = unix.Fdatasync
	}
	return again(func() error { return sync(f.fd) })
}

// Flock takes or gives up the file's own lock of flock(2), LOCK_SH, LOCK_EX or
// LOCK_UN, without waiting: EAGAIN means that somebody else has it.
func (f *File) Flock(how int) error {
	switch how &^ unix.LOCK_NB {
	case unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN:
	default:
		return unix.EINVAL
	}
	return again(func() error { return unix.Flock(f.fd, how|unix.LOCK_NB) })
}
