package virtiofs

import (
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// Which attributes there are is up to package hostfs. As the POSIX ACLs are not
// agreed on in INIT, the guest's kernel does not look at them, and asks for
// them as for any attribute. But it does not check who sets them either, as it
// does with all others: that is done here.

// getxattr: size[4] padding[4] name -> the value, or size[4] padding[4]
func (r *request) getxattr() error {
	size := r.d.u32()
	r.d.u32()
	name := r.d.name()
	if err := r.bad(); err != nil {
		return err
	}
	return r.xattr(size, func(f *hostfs.Node, b []byte) (int, error) { return f.Getxattr(name, b) })
}

// listxattr: size[4] padding[4] -> the names, each with a NUL, or size[4]
// padding[4]
func (r *request) listxattr() error {
	size := r.d.u32()
	r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	return r.xattr(size, (*hostfs.Node).Listxattr)
}

// xattr answers what get reads, of at most size bytes; or how long that is, if
// size is zero.
func (r *request) xattr(size uint32, get func(f *hostfs.Node, b []byte) (int, error)) error {
	u, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer u.release()
	var b []byte
	if size > 0 {
		b = make([]byte, min(size, hostfs.MaxXattr))
	}
	n, err := get(u.file, b)
	switch {
	case err != nil:
		return err
	case size > 0:
		r.e.b = append(r.e.b, b[:n]...)
	default:
		r.e.u32(uint32(n))
		r.e.u32(0)
	}
	return nil
}

// setxattr: size[4] flags[4] name value -> nothing
func (r *request) setxattr() error {
	size, flags := r.d.u32(), r.d.u32()
	name := r.d.name()
	if size > hostfs.MaxXattr && !r.d.bad {
		return unix.E2BIG
	}
	value := r.d.bytes(int(size))
	if err := r.bad(); err != nil {
		return err
	}
	return r.changeXattr(name, func(f *hostfs.Node) error { return f.Setxattr(name, value, int(flags)) })
}

// removexattr: name -> nothing
func (r *request) removexattr() error {
	name := r.d.name()
	if err := r.bad(); err != nil {
		return err
	}
	return r.changeXattr(name, func(f *hostfs.Node) error { return f.Removexattr(name) })
}

func (r *request) changeXattr(name string, change func(f *hostfs.Node) error) error {
	if name == "" || len(name) > maxName {
		return unix.ERANGE // as Linux has it
	}
	u, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer u.release()
	if !isACL(name) {
		return change(u.file)
	}
	st, err := u.file.Stat()
	switch {
	case err != nil:
		return err
	case r.uid != 0 && r.uid != st.Uid:
		return unix.EPERM
	}
	if err := change(u.file); err != nil || r.uid == 0 || r.gid == st.Gid {
		return err
	}
	return dropSGID(u.file)
}

// dropSGID takes set-group-id from a program whose list its owner has changed,
// who is not of that group, as Linux does. Which other groups he is of the guest
// does not say; to be of one of them is not enough here.
func dropSGID(f *hostfs.Node) error {
	st, err := f.Stat()
	if err != nil || st.Mode&unix.S_ISGID == 0 || f.IsDir() {
		return err
	}
	return f.SetAttr(nil, hostfs.Change{Set: hostfs.SetMode, Mode: st.Mode & 0o7777 &^ unix.S_ISGID})
}

func isACL(name string) bool {
	return name == "system.posix_acl_access" || name == "system.posix_acl_default"
}
