package virtiofs

import (
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// owner is whose a file is that the request makes.
func (r *request) owner() hostfs.Owner {
	return hostfs.Owner{UID: r.uid, GID: r.gid, ByFolder: true}
}

// mkdir: mode[4] umask[4] name -> entryOut
func (r *request) mkdir() error {
	mode, _, name := r.d.u32(), r.d.u32(), r.d.name()
	return r.make(name, func(dir *hostfs.Node) (*hostfs.Node, unix.Stat_t, error) {
		return dir.Mkdir(name, mode, r.owner())
	})
}

// symlink: name target -> entryOut
func (r *request) symlink() error {
	name, target := r.d.name(), r.d.name()
	if len(target) > maxTarget {
		return unix.ENAMETOOLONG
	}
	return r.make(name, func(dir *hostfs.Node) (*hostfs.Node, unix.Stat_t, error) {
		return dir.Symlink(name, target, r.owner())
	})
}

// mknod: mode[4] rdev[4] umask[4] padding[4] name -> entryOut
func (r *request) mknod() error {
	mode, _, _, _ := r.d.u32(), r.d.u32(), r.d.u32(), r.d.u32()
	name := r.d.name()
	return r.make(name, func(dir *hostfs.Node) (*hostfs.Node, unix.Stat_t, error) {
		return dir.Mknod(name, mode, r.owner())
	})
}

// make makes the file name in the folder of the request by do.
func (r *request) make(name string, do func(dir *hostfs.Node) (*hostfs.Node, unix.Stat_t, error)) error {
	if err := r.bad(); err != nil {
		return err
	}
	dir, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer dir.release()
	r.s.room()
	f, st, err := do(dir.file)
	if err != nil {
		return err
	}
	return r.enter(dir.n, name, f, &st)
}

// link: oldnodeid[8] name -> entryOut
func (r *request) link() error {
	id, name := r.d.u64(), r.d.name()
	if err := r.bad(); err != nil {
		return err
	}
	if id == rootID {
		return unix.EPERM
	}
	dir, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer dir.release()
	u, err := r.s.use(id)
	if err != nil {
		return err
	}
	defer u.release()
	if err := u.file.Link(dir.file, name); err != nil {
		return err
	}
	st, err := u.file.Stat()
	if err != nil {
		return err
	}
	return r.enter(dir.n, name, u.file.Ref(), &st)
}

// unlink: name -> nothing
func (r *request) unlink() error { return r.remove(false) }

// rmdir: name -> nothing
func (r *request) rmdir() error { return r.remove(true) }

func (r *request) remove(folder bool) error {
	name := r.d.name()
	if err := r.bad(); err != nil {
		return err
	}
	dir, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer dir.release()
	if err := dir.file.Unlink(name, folder); err != nil {
		return err
	}
	r.s.unlinked(dir.n, name)
	return nil
}

// rename: newdir[8] oldname newname -> nothing
func (r *request) rename() error { return r.move(r.d.u64(), 0) }

// rename2: newdir[8] flags[4] padding[4] oldname newname -> nothing
func (r *request) rename2() error {
	to, flags := r.d.u64(), r.d.u32()
	r.d.u32()
	return r.move(to, flags)
}

func (r *request) move(id uint64, flags uint32) error {
	old, name := r.d.name(), r.d.name()
	if err := r.bad(); err != nil {
		return err
	}
	if id == rootID {
		return unix.EXDEV
	}
	dir, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer dir.release()
	to, err := r.s.use(id)
	if err != nil {
		return err
	}
	defer to.release()
	if err := dir.file.Rename(old, to.file, name, flags); err != nil {
		return err
	}
	r.s.renamed(dir.n, old, to.n, name, flags)
	return nil
}
