package p9

import (
	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

// hostFlags returns flags of the wire as those of this host, without those
// that have no meaning for the server's descriptor.
func hostFlags(flags uint32) int {
	host := 0
	switch flags & openAccess {
	case openWriteOnly:
		host = unix.O_WRONLY
	case openReadWrite:
		host = unix.O_RDWR
	}
	for _, m := range []struct {
		wire uint32
		host int
	}{
		{openAppend, unix.O_APPEND}, {openDataSync, unix.O_DSYNC}, {openSync, unix.O_SYNC},
		{openNoATime, unix.O_NOATIME}, {openTruncate, unix.O_TRUNC}, {openDirectory, unix.O_DIRECTORY},
	} {
		if flags&m.wire == m.wire {
			host |= m.host
		}
	}
	return host
}

// lopen: fid[4] flags[4] -> qid[13] iounit[4]
func (r *request) lopen() error {
	id, flags := r.d.u32(), r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.change(id)
	if err != nil {
		return err
	}
	defer release()
	if f.file != nil || f.xattr != nil {
		return unix.EBADF
	}
	fl, st, err := f.node.Open(hostFlags(flags))
	if err != nil {
		return err
	}
	f.file = f.opened(fl, st.Mode)
	r.e.qid(qidOf(f.sh, &st))
	r.e.u32(0) // as much as fits a message
	return nil
}

// opened returns the file of that mode that the fid becomes.
func (f *fid) opened(fl *hostfs.File, mode uint32) *file {
	opened := &file{File: fl}
	opened.privileged.Store(f.uid != 0 && hostfs.Privileged(mode))
	return opened
}

// lcreate: fid[4] name[s] flags[4] mode[4] gid[4] -> qid[13] iounit[4]
//
// fid, a folder, becomes the open file name in it.
func (r *request) lcreate() error {
	id, name := r.d.u32(), r.d.str()
	flags, mode, gid := r.d.u32(), r.d.u32(), r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.change(id)
	if err != nil {
		return err
	}
	defer release()
	if f.file != nil || f.xattr != nil {
		return unix.EBADF
	}
	host := hostFlags(flags)
	if flags&openExclusive != 0 {
		host |= unix.O_EXCL
	}
	n, fl, st, err := f.node.Create(name, host, mode, hostfs.Owner{UID: f.uid, GID: gid})
	if err != nil {
		return err
	}
	f.node.Unref()
	f.node, f.file = n, f.opened(fl, st.Mode)
	r.e.qid(qidOf(f.sh, &st))
	r.e.u32(0)
	return nil
}
