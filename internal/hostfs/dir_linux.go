package hostfs

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	// DirBuffer is enough memory for some of a folder's entries.
	DirBuffer = 24 << 10

	direntHeader = 19 // ino[8] off[8] reclen[2] type[1], then the name and a NUL
)

// Entries gives the entries of a folder that begin at off to yield, until that
// does not take one or there are no more; buf, of DirBuffer bytes, is what they
// are read into. It may end before, but not without any if there is one. The
// arguments of yield are the number that the file has for clients, where the
// next entry begins, a DT_ type, and the name, which is only lent.
func (f *File) Entries(off int64, buf []byte, yield func(ino uint64, next int64, typ uint8, name []byte) bool) error {
	if !f.node.IsDir() {
		return unix.ENOTDIR
	}
	f.dirMu.Lock()
	defer f.dirMu.Unlock()
	if off != f.pos {
		if _, err := unix.Seek(f.fd, off, 0); err != nil {
			return err
		}
		f.pos = off
	}
	for taken := false; !taken; {
		n, err := retry(func() (int, error) { return unix.Getdents(f.fd, buf) })
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for b := buf[:n]; len(b) > 0; {
			size := int(binary.NativeEndian.Uint16(b[16:]))
			ino, next, typ := binary.NativeEndian.Uint64(b), int64(binary.NativeEndian.Uint64(b[8:])), b[18]
			name := b[direntHeader:size]
			name = name[:bytes.IndexByte(name, 0)]
			b = b[size:]
			if !f.hides(name) {
				if !yield(f.inode(ino, name), next, typ, name) {
					// The descriptor is ahead of what was taken.
					_, err := unix.Seek(f.fd, f.pos, 0)
					return err
				}
				taken = true
			}
			f.pos = next
		}
	}
	return nil
}

func (f *File) hides(name []byte) bool {
	if f.node.tree.allowed == nil || string(name) == "." || string(name) == ".." {
		return false
	}
	return !f.node.tree.sees(f.node, string(name))
}

func (f *File) inode(ino uint64, name []byte) uint64 {
	if string(name) == ".." && f.node.IsRoot() {
		ino = f.node.id.Ino // what is above is not the client's business
	}
	return f.node.tree.Inode(f.node.id.Dev, ino)
}
