package pipe

import (
	"errors"
	"io/fs"
	"syscall"
)

func access(fi fs.FileInfo) (Access, error) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return Access{}, errors.ErrUnsupported
	}
	return Access{Mode: uint32(fi.Mode().Perm()), UID: st.Uid, GID: st.Gid}, nil
}
