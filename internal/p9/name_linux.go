package p9

import (
	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

// mkdir: dfid[4] name[s] mode[4] gid[4] -> qid[13]
func (r *request) mkdir() error {
	id, name, mode, gid := r.d.u32(), r.d.str(), r.d.u32(), r.d.u32()
	return r.make(id, gid, func(dir *hostfs.Node, o hostfs.Owner) (*hostfs.Node, unix.Stat_t, error) {
		return dir.Mkdir(name, mode, o)
	})
}

// symlink: fid[4] name[s] symtgt[s] gid[4] -> qid[13]
func (r *request) symlink() error {
	id, name, target, gid := r.d.u32(), r.d.str(), r.d.str(), r.d.u32()
	return r.make(id, gid, func(dir *hostfs.Node, o hostfs.Owner) (*hostfs.Node, unix.Stat_t, error) {
		return dir.Symlink(name, target, o)
	})
}

// mknod: dfid[4] name[s] mode[4] major[4] minor[4] gid[4] -> qid[13]
//
// Only a regular file can be made.
func (r *request) mknod() error {
	id, name, mode := r.d.u32(), r.d.str(), r.d.u32()
	_, _, gid := r.d.u32(), r.d.u32(), r.d.u32()
	return r.make(id, gid, func(dir *hostfs.Node, o hostfs.Owner) (*hostfs.Node, unix.Stat_t, error) {
		return dir.Mknod(name, mode, o)
	})
}

// make makes a file in the folder of a fid by do.
func (r *request) make(id, gid uint32, do func(*hostfs.Node, hostfs.Owner) (*hostfs.Node, unix.Stat_t, error)) error {
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	n, st, err := do(f.node, hostfs.Owner{UID: f.uid, GID: gid})
	if err != nil {
		return err
	}
	n.Unref()
	r.e.qid(qidOf(f.sh, &st))
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
	return f.node.Link(d.node, name)
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
	return f.node.Rename(old, t.node, name, 0)
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
	return f.node.Unlink(name, flags&unlinkDirectory != 0)
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
	target, err := f.node.Readlink()
	if err != nil {
		return err
	}
	r.e.str(target)
	return nil
}
