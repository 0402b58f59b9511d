package p9

import "golang.org/x/sys/unix"

// mkdir: dfid[4] name[s] mode[4] gid[4] -> qid[13]
func (r *request) mkdir() error {
	id, name, mode, gid := r.d.u32(), r.d.str(), r.d.u32(), r.d.u32()
	return r.make(id, name, unix.S_IFDIR|mode&0o7777, gid, func(dir int) error {
		return unix.Mkdirat(dir, name, mode&0o777)
	})
}

// symlink: fid[4] name[s] symtgt[s] gid[4] -> qid[13]
func (r *request) symlink() error {
	id, name, target, gid := r.d.u32(), r.d.str(), r.d.str(), r.d.u32()
	return r.make(id, name, unix.S_IFLNK|0o777, gid, func(dir int) error {
		return unix.Symlinkat(target, dir, name)
	})
}

// mknod: dfid[4] name[s] mode[4] major[4] minor[4] gid[4] -> qid[13]
//
// Only a regular file can be made.
func (r *request) mknod() error {
	id, name, mode := r.d.u32(), r.d.str(), r.d.u32()
	_, _, gid := r.d.u32(), r.d.u32(), r.d.u32()
	if t := mode & unix.S_IFMT; t != unix.S_IFREG && t != 0 && r.d.done() {
		return unix.EPERM
	}
	return r.make(id, name, unix.S_IFREG|mode&0o7777, gid, func(dir int) error {
		return unix.Mknodat(dir, name, unix.S_IFREG|mode&0o777, 0)
	})
}

// make makes the file name in the folder of a fid by do.
func (r *request) make(id uint32, name string, mode, gid uint32, do func(dir int) error) error {
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	if err := f.sh.mayChange(f.node, name, unix.EPERM); err != nil {
		return err
	}
	if err := again(func() error { return do(f.node.fd) }); err != nil {
		return err
	}
	n, err := f.node.lookup(name)
	if err != nil {
		return err
	}
	defer n.unref()
	// Somebody else can have put something else there since.
	if n.kind == mode&unix.S_IFMT {
		if err := n.own(f.uid, gid, mode); err != nil {
			flags := 0
			if n.isDir() {
				flags = unix.AT_REMOVEDIR
			}
			f.node.unmake(n, name, flags)
			return err
		}
	}
	_, q, err := n.stat(f.sh)
	if err != nil {
		return err
	}
	r.e.qid(q)
	return nil
}

// link: dfid[4] fid[4] name[s] -> nothing
func (r *request) link() error {
	dir, id, name := r.d.u32(), r.d.u32(), r.d.str()
	if err := r.bad(); err != nil {
		return err
	}
	d, f, release, err := r.c.useTwo(dir, id)
	if err != nil {
		return err
	}
	defer release()
	if err := d.sh.mayChange(d.node, name, unix.EPERM); err != nil {
		return err
	}
	if f.node.isDir() {
		return unix.EPERM
	}
	return again(func() error {
		return unix.Linkat(unix.AT_FDCWD, f.node.proc(), d.node.fd, name, unix.AT_SYMLINK_FOLLOW)
	})
}

// renameat: olddirfid[4] oldname[s] newdirfid[4] newname[s] -> nothing
func (r *request) renameat() error {
	from, old := r.d.u32(), r.d.str()
	to, name := r.d.u32(), r.d.str()
	if err := r.bad(); err != nil {
		return err
	}
	f, t, release, err := r.c.useTwo(from, to)
	if err != nil {
		return err
	}
	defer release()
	if err := f.sh.mayChange(f.node, old, unix.ENOENT); err != nil {
		return err
	}
	if err := t.sh.mayChange(t.node, name, unix.EPERM); err != nil {
		return err
	}
	return again(func() error { return unix.Renameat(f.node.fd, old, t.node.fd, name) })
}

// unlinkat: dirfd[4] name[s] flags[4] -> nothing
func (r *request) unlinkat() error {
	id, name, flags := r.d.u32(), r.d.str(), r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	if err := f.sh.mayChange(f.node, name, unix.ENOENT); err != nil {
		return err
	}
	host := 0
	if flags&unlinkDirectory != 0 {
		host = unix.AT_REMOVEDIR
	}
	return again(func() error { return unix.Unlinkat(f.node.fd, name, host) })
}

// readlink: fid[4] -> target[s]
func (r *request) readlink() error {
	id := r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	if f.node.kind != unix.S_IFLNK {
		return unix.EINVAL
	}
	var b [4096]byte // PATH_MAX, more than any target has
	n, err := unix.Readlinkat(f.node.fd, "", b[:])
	if err != nil {
		return err
	}
	r.e.str(string(b[:n]))
	return nil
}
