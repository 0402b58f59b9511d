package hostfs

import "golang.org/x/sys/unix"

// MaxName is the longest name of a file in a folder, in bytes.
const MaxName = 255

// CheckName refuses what is not the name of one file in a folder.
func CheckName(name string) error {
	switch {
	case name == "", name == ".", name == "..":
		return unix.EINVAL
	case len(name) > MaxName:
		return unix.ENAMETOOLONG
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return unix.EINVAL
		}
	}
	return nil
}

// mayChange reports why the name in the folder n cannot be made, changed or
// removed.
func (n *Node) mayChange(name string, missing error) error {
	switch err := CheckName(name); {
	case err != nil:
		return err
	case !n.IsDir():
		return unix.ENOTDIR
	case !n.tree.sees(n, name):
		return missing
	}
	return n.tree.Writable()
}

// Link makes name in the folder dir one more name of the file.
func (n *Node) Link(dir *Node, name string) error {
	if n.tree != dir.tree {
		return unix.EXDEV
	}
	if err := dir.mayChange(name, unix.EPERM); err != nil {
		return err
	}
	if n.IsDir() {
		return unix.EPERM
	}
	fd, err := n.use()
	if err != nil {
		return err
	}
	defer n.done()
	at, err := dir.use()
	if err != nil {
		return err
	}
	defer dir.done()
	return again(func() error {
		return unix.Linkat(unix.AT_FDCWD, procPath(fd), at, name, unix.AT_SYMLINK_FOLLOW)
	})
}

// Rename makes what is called old in the folder n be called name in the folder
// to. Flags are RENAME_NOREPLACE or RENAME_EXCHANGE.
func (n *Node) Rename(old string, to *Node, name string, flags uint32) error {
	missing := error(unix.EPERM)
	switch flags {
	case 0, unix.RENAME_NOREPLACE:
	case unix.RENAME_EXCHANGE:
		missing = unix.ENOENT
	default:
		return unix.EINVAL
	}
	if n.tree != to.tree {
		return unix.EXDEV
	}
	if err := n.mayChange(old, unix.ENOENT); err != nil {
		return err
	}
	if err := to.mayChange(name, missing); err != nil {
		return err
	}
	from, err := n.use()
	if err != nil {
		return err
	}
	defer n.done()
	at, err := to.use()
	if err != nil {
		return err
	}
	defer to.done()
	return again(func() error { return unix.Renameat2(from, old, at, name, uint(flags)) })
}

// Unlink removes the name of a file in the folder n, or an empty folder.
func (n *Node) Unlink(name string, folder bool) error {
	if err := n.mayChange(name, unix.ENOENT); err != nil {
		return err
	}
	fd, err := n.use()
	if err != nil {
		return err
	}
	defer n.done()
	flags := 0
	if folder {
		flags = unix.AT_REMOVEDIR
	}
	return again(func() error { return unix.Unlinkat(fd, name, flags) })
}

// Readlink returns where a symbolic link leads.
func (n *Node) Readlink() (string, error) {
	if n.kind != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	fd, err := n.use()
	if err != nil {
		return "", err
	}
	defer n.done()
	var b [4096]byte // PATH_MAX, more than any target has
	m, err := retry(func() (int, error) { return unix.Readlinkat(fd, "", b[:]) })
	if err != nil {
		return "", err
	}
	return string(b[:m]), nil
}
