package p9

import (
	"sync"

	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

// maxXattrs is what the fids of all clients may hold of attributes.
const maxXattrs = 16 << 20

// An xattr is the value of an extended attribute, or the list of their names,
// that a fid stands for: read whole when the fid is made, or set whole when it
// ends.
type xattr struct {
	name  string
	set   bool // else it is read
	flags int

	mu   sync.Mutex // guards the contents of data, and done
	data []byte     // counted by Server.xattrs
	done int        // bytes of data that were written
}

// newXattr counts size bytes; the fid that it becomes part of gives them back.
func (s *Server) newXattr(size int) (*xattr, error) {
	if s.xattrs.Add(int64(size)) > maxXattrs {
		s.xattrs.Add(-int64(size))
		return nil, unix.ENOBUFS
	}
	return &xattr{data: make([]byte, size)}, nil
}

func (x *xattr) free(s *Server) {
	if x != nil {
		s.xattrs.Add(-int64(cap(x.data)))
	}
}

func (x *xattr) read(b []byte, off int64) (int, error) {
	if x.set {
		return 0, unix.EBADF
	}
	if off >= int64(len(x.data)) {
		return 0, nil
	}
	return copy(b, x.data[off:]), nil
}

func (x *xattr) write(b []byte, off int64) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case !x.set:
		return 0, unix.EBADF
	case off != int64(x.done), len(b) > len(x.data)-x.done:
		return 0, unix.EINVAL
	}
	x.done += copy(x.data[x.done:], b)
	return len(b), nil
}

// xattrwalk: fid[4] newfid[4] name[s] -> size[8]
//
// newfid becomes the value of the attribute, or without a name the list of
// their names, for tRead.
func (r *request) xattrwalk() error {
	id, newID, name := r.d.u32(), r.d.u32(), r.d.str()
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	if f.xattr != nil {
		return unix.EBADF
	}
	get := f.node.Listxattr
	if name != "" {
		get = func(b []byte) (int, error) { return f.node.Getxattr(name, b) }
	}
	x, err := r.c.s.readXattr(get)
	if err != nil {
		return err
	}
	size := len(x.data)
	if err := r.c.insert(&fid{id: newID, uid: f.uid, sh: f.sh, node: f.node.Ref(), xattr: x}); err != nil {
		return err
	}
	r.e.u64(uint64(size))
	return nil
}

func (s *Server) readXattr(get func([]byte) (int, error)) (*xattr, error) {
	size, err := get(nil)
	if err != nil {
		return nil, err
	}
	x, err := s.newXattr(min(size, hostfs.MaxXattr))
	if err != nil {
		return nil, err
	}
	if size > 0 {
		size, err = get(x.data) // ERANGE if it has grown since
	}
	if err != nil {
		x.free(s)
		return nil, err
	}
	x.data = x.data[:size]
	return x, nil
}

// xattrcreate: fid[4] name[s] attr_size[8] flags[4] -> nothing
//
// fid becomes the attribute: what is written to it is set when it is clunked.
func (r *request) xattrcreate() error {
	id, name, size, flags := r.d.u32(), r.d.str(), r.d.u64(), r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.change(id)
	if err != nil {
		return err
	}
	defer release()
	switch {
	case f.xattr != nil || f.file != nil:
		return unix.EBADF
	case f.sh.Writable() != nil:
		return f.sh.Writable()
	case !hostfs.XattrAllowed(name):
		return unix.EOPNOTSUPP
	case size > hostfs.MaxXattr:
		return unix.E2BIG
	case flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0:
		return unix.EINVAL
	}
	x, err := r.c.s.newXattr(int(size))
	if err != nil {
		return err
	}
	x.name, x.set, x.flags = name, true, int(flags)
	f.xattr = x
	return nil
}

// setXattr sets the attribute that the fid is, if it is one that was written.
// f.mu is held for writing.
func (f *fid) setXattr() error {
	x := f.xattr
	switch {
	case x == nil || !x.set || f.node == nil:
		return nil
	case f.sh.Gone() != nil:
		return errGone
	case x.done < len(x.data):
		return unix.EINVAL
	case len(x.data) == 0 && x.flags == unix.XATTR_REPLACE: // how Linux asks for that
		return f.node.Removexattr(x.name)
	}
	return f.node.Setxattr(x.name, x.data, x.flags)
}
