package hostfs

import (
	"bytes"
	"strings"

	"golang.org/x/sys/unix"
)

// MaxXattr is the longest value, and the longest list of names, of Linux.
const MaxXattr = 64 << 10

// XattrAllowed reports whether clients have an attribute, see the package's
// comment.
func XattrAllowed(name string) bool {
	switch name {
	case "system.posix_acl_access", "system.posix_acl_default", "security.capability":
		return true
	}
	return strings.HasPrefix(name, "user.") && len(name) > len("user.") && strings.IndexByte(name, 0) < 0
}

// Getxattr reads the value of an attribute into b, and returns how long it is;
// into nothing, if b is nothing.
func (n *Node) Getxattr(name string, b []byte) (int, error) {
	if !XattrAllowed(name) {
		return 0, unix.EOPNOTSUPP
	}
	fd, err := n.use()
	if err != nil {
		return 0, err
	}
	defer n.done()
	return retry(func() (int, error) { return unix.Getxattr(procPath(fd), name, b) })
}

// Listxattr reads the names that clients have into b, each with a NUL, and
// returns how long they are together; into nothing, if b is nothing.
func (n *Node) Listxattr(b []byte) (int, error) {
	fd, err := n.use()
	if err != nil {
		return 0, err
	}
	defer n.done()
	path := procPath(fd)
	size, err := retry(func() (int, error) { return unix.Listxattr(path, nil) }) // of all names
	if size == 0 || err != nil {
		return 0, err
	}
	all := b
	if size > len(b) {
		all = make([]byte, min(size, MaxXattr))
	}
	if size, err = retry(func() (int, error) { return unix.Listxattr(path, all) }); err != nil {
		return 0, err // ERANGE if it has grown since
	}
	kept := all[:0]
	for name := range bytes.SplitAfterSeq(all[:size], []byte{0}) {
		if len(name) > 1 && XattrAllowed(string(name[:len(name)-1])) {
			kept = append(kept, name...)
		}
	}
	if len(b) > 0 && copy(b, kept) < len(kept) {
		return 0, unix.ERANGE
	}
	return len(kept), nil
}

// Setxattr sets an attribute. Flags are XATTR_CREATE or XATTR_REPLACE.
func (n *Node) Setxattr(name string, value []byte, flags int) error {
	if err := n.mayChangeXattr(name); err != nil {
		return err
	}
	switch {
	case len(value) > MaxXattr:
		return unix.E2BIG
	case flags&^(unix.XATTR_CREATE|unix.XATTR_REPLACE) != 0:
		return unix.EINVAL
	}
	fd, err := n.use()
	if err != nil {
		return err
	}
	defer n.done()
	return again(func() error { return unix.Setxattr(procPath(fd), name, value, flags) })
}

// Removexattr removes an attribute.
func (n *Node) Removexattr(name string) error {
	if err := n.mayChangeXattr(name); err != nil {
		return err
	}
	fd, err := n.use()
	if err != nil {
		return err
	}
	defer n.done()
	return again(func() error { return unix.Removexattr(procPath(fd), name) })
}

func (n *Node) mayChangeXattr(name string) error {
	switch err := n.tree.Writable(); {
	case err != nil:
		return err
	case !XattrAllowed(name):
		return unix.EOPNOTSUPP
	}
	return nil
}
