package p9

import (
	"errors"
	"syscall"

	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

// qidOf returns the qid of a file with those attributes.
func qidOf(t *hostfs.Tree, st *unix.Stat_t) qid {
	return qid{
		typ:     qidType(st.Mode),
		version: uint32(st.Mtim.Sec) ^ uint32(st.Mtim.Nsec) ^ uint32(st.Size)<<8,
		path:    t.Inode(st.Dev, st.Ino),
	}
}

func qidType(mode uint32) uint8 {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return qidDir
	case unix.S_IFLNK:
		return qidSymlink
	}
	return qidFile
}

// errno returns the number that an error has on the wire.
func errno(err error) uint32 {
	var e syscall.Errno
	if errors.As(err, &e) && e != 0 {
		return uint32(e)
	}
	return uint32(unix.EIO)
}
