package virtiofs

import (
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// hostFlags returns those flags of the guest's open(2) that the file is opened
// with here; they are the same for all kernels of an architecture. O_APPEND is
// not one of them, as each WRITE says whether it has that.
func hostFlags(flags uint32) int {
	return int(flags) & (unix.O_ACCMODE | unix.O_DSYNC | unix.O_SYNC | unix.O_NOATIME | unix.O_TRUNC | unix.O_EXCL)
}

// open: flags[4] open_flags[4] -> fh[8] open_flags[4] padding[4]
func (r *request) open() error { return r.openNode(false) }

// opendir: as open
func (r *request) opendir() error { return r.openNode(true) }

func (r *request) openNode(folder bool) error {
	flags, more := r.d.u32(), r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	u, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer u.release()
	host := hostFlags(flags)
	switch {
	case folder:
		host = unix.O_RDONLY | unix.O_DIRECTORY
	case u.file.IsDir():
		return unix.EISDIR
	}
	r.s.room()
	f, _, err := u.file.Open(host)
	if err != nil {
		return err
	}
	if host&unix.O_TRUNC != 0 && more&openKillSUIDGID != 0 {
		if err := f.DropPrivilege(); err != nil {
			_ = f.Close() // nothing was written to it
			return err
		}
	}
	h, err := r.s.newHandle(u.n, f)
	if err != nil {
		return err
	}
	r.e.openOut(h)
	return nil
}

func (e *encoder) openOut(h *handle) {
	e.u64(h.id)
	e.u32(0) // what the guest's kernel has of the file is asked for anew
	e.u32(0)
}

// create: flags[4] mode[4] umask[4] open_flags[4] name
// -> entryOut fh[8] open_flags[4] padding[4]
func (r *request) create() error {
	flags, mode, _, more := r.d.u32(), r.d.u32(), r.d.u32(), r.d.u32()
	name := r.d.name()
	if err := r.bad(); err != nil {
		return err
	}
	dir, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer dir.release()
	r.s.room()
	n, f, st, err := dir.file.Create(name, hostFlags(flags), mode, r.owner())
	if err != nil {
		return err
	}
	if flags&unix.O_TRUNC != 0 && more&openKillSUIDGID != 0 {
		err = f.DropPrivilege()
	}
	if err != nil {
		n.Unref()
		_ = f.Close() // nothing was written to it
		return err
	}
	return r.entered(dir.n, name, n, f, &st)
}

// entered is enter of a file that was opened, too; it takes both over.
func (r *request) entered(dir *node, name string, file *hostfs.Node, f *hostfs.File, st *unix.Stat_t) error {
	n, err := r.s.found(dir, name, file)
	if err != nil {
		_ = f.Close() // nothing was written to it
		return err
	}
	// What has a handle has its descriptor, too, from the first.
	u, err := r.s.use(n.id)
	if err != nil {
		_ = f.Close() // nothing was written to it
		r.s.forget(n.id, 1)
		return err
	}
	defer u.release()
	h, err := r.s.newHandle(n, f)
	if err != nil {
		r.s.forget(n.id, 1)
		return err
	}
	r.e.entryOut(n, st, valid)
	r.e.openOut(h)
	return nil
}

// release: fh[8] flags[4] release_flags[4] lock_owner[8] -> nothing
//
// What locks the handle has end with it.
func (r *request) release() error {
	fh, _, _, _ := r.d.u64(), r.d.u32(), r.d.u32(), r.d.u64()
	if err := r.bad(); err != nil {
		return err
	}
	return r.s.closeHandle(fh, r.node)
}

// flush: fh[8] unused[4] padding[4] lock_owner[8] -> nothing
//
// A process has closed the file, and by that given up its locks of it.
func (r *request) flush() error {
	fh, _, _, owner := r.d.u64(), r.d.u32(), r.d.u32(), r.d.u64()
	if err := r.bad(); err != nil {
		return err
	}
	h, err := r.s.handle(fh, r.node)
	if err != nil {
		return err
	}
	defer h.release()
	r.s.flushLocks(h, owner)
	if !h.wrote.Swap(false) {
		return nil
	}
	// What the host says of what was written it says to who closes the file.
	fd, err := unix.FcntlInt(uintptr(h.file.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil //nolint:nilerr // then it is not said
	}
	return unix.Close(fd)
}
