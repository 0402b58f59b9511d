package hostfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Privileged reports whether whoever runs a file of that mode becomes another
// user or group.
func Privileged(mode uint32) bool {
	return mode&unix.S_IFMT == unix.S_IFREG &&
		(mode&unix.S_ISUID != 0 || mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP)
}

// unprivileged returns a mode without what makes it privileged.
func unprivileged(mode uint32) uint32 {
	gone := uint32(unix.S_ISUID)
	if mode&unix.S_IXGRP != 0 {
		gone |= unix.S_ISGID
	}
	return mode & 0o7777 &^ gone
}

// DropPrivilege takes set-user-id and set-group-id away, as Linux does from
// a file that a user writes to. To the host's kernel the writer is root, who
// keeps them; where this process is not, that kernel does it.
func (f *File) DropPrivilege() error {
	if err := f.node.tree.Writable(); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil || !Privileged(st.Mode) {
		return err
	}
	if err := again(func() error { return unix.Fchmod(f.fd, unprivileged(st.Mode)) }); err != nil && !errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}

// dropPrivilege is DropPrivilege of a file that is not open, by the descriptor
// of its node.
func dropPrivilege(fd int) error {
	st, err := fstat(fd)
	if err != nil || !Privileged(st.Mode) {
		return err
	}
	if err := chmod(fd, unprivileged(st.Mode)); err != nil && !errors.Is(err, unix.EPERM) {
		return err
	}
	return nil
}
