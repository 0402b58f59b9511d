package p9

import (
	"errors"

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
	fl, q, err := f.open(f.node, flags)
	if err != nil {
		return err
	}
	f.file = fl
	r.e.qid(q)
	r.e.u32(0) // as much as fits a message
	return nil
}

func (f *fid) open(n *node, flags uint32) (*file, qid, error) {
	sh := f.sh
	if flags&openAccess != 0 || flags&openTruncate != 0 {
		if err := sh.writable(); err != nil {
			return nil, qid{}, err
		}
	}
	host := hostFlags(flags)
	fd, err := n.open(host)
	if err != nil {
		return nil, qid{}, err
	}
	st, q, err := n.stat(sh)
	if err != nil {
		n.s.closeFile(fd)
		return nil, qid{}, err
	}
	fl := &file{fd: fd, append: host&unix.O_APPEND != 0}
	fl.privileged.Store(f.uid != 0 && givesPrivilege(st.Mode))
	return fl, q, nil
}

// givesPrivilege reports whether whoever runs a file of that mode becomes
// another user or group.
func givesPrivilege(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFREG &&
		(mode&unix.S_ISUID != 0 || mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP)
}

// dropPrivilege takes set-user-id and set-group-id away from a file that a
// user writes to for the first time. The client's kernel leaves that to the
// server, and to the server's the writer is root; where it is not, that kernel
// does it.
func (f *fid) dropPrivilege() error {
	var st unix.Stat_t
	if err := unix.Fstat(f.node.fd, &st); err != nil {
		return err
	}
	if givesPrivilege(st.Mode) {
		gone := uint32(unix.S_ISUID)
		if st.Mode&unix.S_IXGRP != 0 {
			gone |= unix.S_ISGID
		}
		if err := unix.Chmod(f.node.proc(), st.Mode&0o7777&^gone); err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	f.file.privileged.Store(false)
	return nil
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
	if err := f.sh.mayChange(f.node, name, unix.EPERM); err != nil {
		return err
	}
	n, fl, q, err := f.create(name, flags, mode, gid)
	if errors.Is(err, unix.EEXIST) && flags&openExclusive == 0 {
		// It is there, or came in between: then it is opened as any other.
		if n, err = f.node.lookup(name); err == nil {
			if fl, q, err = f.open(n, flags); err != nil {
				n.unref()
			}
		}
	}
	if err != nil {
		return err
	}
	f.node.unref()
	f.node, f.file = n, fl
	r.e.qid(q)
	r.e.u32(0)
	return nil
}

// create makes the file name in the folder f and opens it.
func (f *fid) create(name string, flags, mode, gid uint32) (*node, *file, qid, error) {
	s := f.node.s
	host := hostFlags(flags) &^ (unix.O_DIRECTORY | unix.O_TRUNC | unix.O_NOATIME)
	fd, err := s.openFile(func() (int, error) {
		return unix.Openat2(f.node.fd, name, &unix.OpenHow{
			Flags:   uint64(host | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOCTTY),
			Mode:    uint64(mode & 0o777),
			Resolve: resolve,
		})
	})
	if err != nil {
		return nil, nil, qid{}, err
	}
	n, err := newNode(s, fd)
	if err != nil {
		return nil, nil, qid{}, err
	}
	var q qid
	// A second descriptor, so that the fid ends as any other does.
	again, err := s.openFile(func() (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		if err = n.own(f.uid, gid, mode); err == nil {
			_, q, err = n.stat(f.sh)
		}
		if err != nil {
			s.closeFile(again)
		}
	}
	if err != nil {
		f.node.unmake(n, name, 0)
		n.unref()
		return nil, nil, qid{}, err
	}
	fl := &file{fd: again, append: host&unix.O_APPEND != 0}
	fl.privileged.Store(f.uid != 0 && givesPrivilege(unix.S_IFREG|mode))
	return n, fl, q, nil
}

// unmake removes child, which is called name in the folder n unless somebody
// else has put something else there.
func (n *node) unmake(child *node, name string, flags int) {
	var st unix.Stat_t
	err := unix.Fstatat(n.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Dev == child.dev && st.Ino == child.ino {
		_ = unix.Unlinkat(n.fd, name, flags) // the error that it follows says more
	}
}

// own sets the owner and the mode of a new file. A server that may not give
// files away keeps them.
func (n *node) own(uid, gid, mode uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(n.fd, &st); err != nil {
		return err
	}
	if uid == noUID {
		uid = st.Uid
	}
	if gid == noUID {
		gid = st.Gid
	}
	if uid != st.Uid || gid != st.Gid {
		err := unix.Fchownat(n.fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH)
		if err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	want := mode & 0o7777
	if n.isDir() {
		want |= st.Mode & unix.S_ISGID // of the folder that it is in
	}
	if n.kind == unix.S_IFLNK || want == st.Mode&0o7777 {
		return nil
	}
	return unix.Chmod(n.proc(), want)
}
