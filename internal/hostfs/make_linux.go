package hostfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// NoID is a user or group that is not said: a new file has what the host gives
// it.
const NoID = 1<<32 - 1

// An Owner is whose a new file is.
type Owner struct {
	UID, GID uint32

	// ByFolder has the folder that the file is made in decide, as Linux does
	// where that folder has set-group-id: the group is the folder's, and
	// a program that a user makes for a group that is not the user's does not
	// get set-group-id itself. Without it the server's client has done so.
	ByFolder bool
}

// in returns the owner and the mode of a file that is made in a folder.
func (o Owner) in(folder int, mode uint32) (Owner, uint32, error) {
	if !o.ByFolder {
		return o, mode, nil
	}
	st, err := fstat(folder)
	if err != nil {
		return o, mode, err
	}
	if st.Mode&unix.S_ISGID == 0 {
		return o, mode, nil
	}
	const both = unix.S_ISGID | unix.S_IXGRP
	if mode&unix.S_IFMT != unix.S_IFDIR && mode&both == both && o.UID != 0 && o.GID != st.Gid {
		mode &^= unix.S_ISGID
	}
	o.GID = st.Gid
	return o, mode, nil
}

// Mkdir makes the folder name in the folder n. The caller gives the reference
// up. Where the host's folders hand set-group-id down, this one does.
func (n *Node) Mkdir(name string, mode uint32, o Owner) (*Node, unix.Stat_t, error) {
	return n.make(name, unix.S_IFDIR|mode&0o7777, o, func(at int) error {
		return unix.Mkdirat(at, name, 0) // by which make knows it
	})
}

// Symlink makes the symbolic link name in the folder n, see Mkdir.
func (n *Node) Symlink(name, target string, o Owner) (*Node, unix.Stat_t, error) {
	return n.make(name, unix.S_IFLNK|0o777, o, func(at int) error {
		return unix.Symlinkat(target, at, name)
	})
}

// Mknod makes the file name in the folder n, see Mkdir. Only a regular one can
// be made, by a descriptor, so that what is given to the owner is that file.
func (n *Node) Mknod(name string, mode uint32, o Owner) (*Node, unix.Stat_t, error) {
	if t := mode & unix.S_IFMT; t != unix.S_IFREG && t != 0 {
		return nil, unix.Stat_t{}, unix.EPERM
	}
	made, f, st, err := n.Create(name, unix.O_WRONLY|unix.O_EXCL, mode, o)
	if err != nil {
		return nil, st, err
	}
	if err := f.Close(); err != nil {
		made.Unref()
		return nil, st, err
	}
	return made, st, nil
}

// make makes the folder or the symbolic link name in the folder n by do.
func (n *Node) make(name string, mode uint32, o Owner, do func(at int) error) (_ *Node, st unix.Stat_t, err error) {
	if err := n.mayChange(name, unix.EPERM); err != nil {
		return nil, st, err
	}
	at, err := n.use()
	if err != nil {
		return nil, st, err
	}
	defer n.done()
	if o, mode, err = o.in(at, mode); err != nil {
		return nil, st, err
	}
	// The descriptor is counted before, so that there is one if the file is made.
	fd, err := n.tree.files.take(func() (int, error) {
		if err := again(func() error { return do(at) }); err != nil {
			return -1, err
		}
		return retry(func() (int, error) { return openName(at, name) })
	})
	if err != nil {
		return nil, st, err
	}
	made, st, err := newNode(n.tree, fd)
	if err != nil {
		return nil, st, err
	}
	// A program of the host can have put something else there since. That of
	// a folder is told by a mode that no other one has; links differ in nothing
	// that matters.
	if made.kind != mode&unix.S_IFMT || made.IsDir() && st.Mode&0o777 != 0 {
		return made, st, nil
	}
	if err := made.own(&st, o, mode); err != nil {
		flags := 0
		if made.IsDir() {
			flags = unix.AT_REMOVEDIR
		}
		unmake(at, made.id, name, flags)
		made.Unref()
		return nil, st, err
	}
	return made, st, nil
}

// unmake removes a file, which is called name in a folder unless somebody else
// has put something else there.
func unmake(folder int, id ID, name string, flags int) {
	var st unix.Stat_t
	err := again(func() error { return unix.Fstatat(folder, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err == nil && st.Dev == id.Dev && st.Ino == id.Ino {
		_ = again(func() error { return unix.Unlinkat(folder, name, flags) }) // the error that it follows says more
	}
}

// own sets the owner and the mode of a new file, whose attributes are st, also
// after it. A process that may not give files away keeps them.
func (n *Node) own(st *unix.Stat_t, o Owner, mode uint32) error {
	if o.UID == NoID {
		o.UID = st.Uid
	}
	if o.GID == NoID {
		o.GID = st.Gid
	}
	changed := false
	if o.UID != st.Uid || o.GID != st.Gid {
		err := chown(n.fd, int(o.UID), int(o.GID))
		if err != nil && !errors.Is(err, unix.EPERM) {
			return err
		}
		changed = err == nil
	}
	want := mode & 0o7777
	if n.IsDir() {
		want |= st.Mode & unix.S_ISGID // of the folder that it is in
	}
	if n.kind != unix.S_IFLNK && want != st.Mode&0o7777 {
		if err := chmod(n.fd, want); err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	var err error
	*st, err = fstat(n.fd)
	return err
}
