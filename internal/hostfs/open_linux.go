package hostfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// openFlags are what a file of a client can be opened with. Others have no
// meaning for the server's descriptor, or would make it something else.
const openFlags = unix.O_ACCMODE | unix.O_APPEND | unix.O_DSYNC | unix.O_SYNC |
	unix.O_NOATIME | unix.O_TRUNC | unix.O_DIRECTORY

// Open opens the file with flags of open(2), and returns its attributes, too.
// The caller closes it. Other flags than those of access, O_APPEND, O_DSYNC,
// O_SYNC, O_NOATIME, O_TRUNC and O_DIRECTORY do nothing.
func (n *Node) Open(flags int) (*File, unix.Stat_t, error) {
	var st unix.Stat_t
	flags &= openFlags
	if flags&(unix.O_ACCMODE|unix.O_TRUNC) != 0 {
		if err := n.tree.Writable(); err != nil {
			return nil, st, err
		}
	}
	switch {
	case flags&unix.O_ACCMODE == unix.O_ACCMODE:
		return nil, st, unix.EINVAL
	case n.kind == unix.S_IFLNK:
		return nil, st, unix.ELOOP
	case n.kind != unix.S_IFREG && n.kind != unix.S_IFDIR:
		return nil, st, unix.EPERM
	}
	at, err := n.use()
	if err != nil {
		return nil, st, err
	}
	defer n.done()
	fd, err := n.tree.files.reopen(at, flags)
	if err != nil {
		return nil, st, err
	}
	if st, err = fstat(fd); err != nil {
		n.tree.files.drop(fd)
		return nil, st, err
	}
	return newFile(n.Ref(), fd, flags), st, nil
}

// reopen opens the file of a descriptor once more. It is a regular file or a
// folder.
func (f *Files) reopen(fd, flags int) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOCTTY
	return f.take(func() (int, error) {
		fd2, err := unix.Open(procPath(fd), flags, 0)
		if errors.Is(err, unix.EPERM) && flags&unix.O_NOATIME != 0 { // only the owner may
			fd2, err = unix.Open(procPath(fd), flags&^unix.O_NOATIME, 0)
		}
		return fd2, err
	})
}

// Create makes the file name in the folder n and opens it; see Mkdir and Open.
// One that is there is opened as any other, unless flags have O_EXCL.
func (n *Node) Create(name string, flags int, mode uint32, o Owner) (*Node, *File, unix.Stat_t, error) {
	if err := n.mayChange(name, unix.EPERM); err != nil {
		return nil, nil, unix.Stat_t{}, err
	}
	made, f, st, err := n.create(name, flags, mode, o)
	if !errors.Is(err, unix.EEXIST) || flags&unix.O_EXCL != 0 {
		return made, f, st, err
	}
	// It is there, or came in between.
	if made, st, err = n.Lookup(name); err != nil {
		return nil, nil, st, err
	}
	if f, st, err = made.Open(flags); err != nil {
		made.Unref()
		return nil, nil, st, err
	}
	return made, f, st, nil
}

func (n *Node) create(name string, flags int, mode uint32, o Owner) (_ *Node, _ *File, st unix.Stat_t, err error) {
	at, err := n.use()
	if err != nil {
		return nil, nil, st, err
	}
	defer n.done()
	mode = unix.S_IFREG | mode&0o7777
	if o, mode, err = o.in(at, mode); err != nil {
		return nil, nil, st, err
	}
	files := n.tree.files
	flags &= openFlags &^ (unix.O_DIRECTORY | unix.O_TRUNC | unix.O_NOATIME)
	if flags&unix.O_ACCMODE == unix.O_ACCMODE {
		return nil, nil, st, unix.EINVAL
	}
	fd, err := files.take(func() (int, error) {
		return unix.Openat2(at, name, &unix.OpenHow{
			Flags:   uint64(flags | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOCTTY),
			Mode:    uint64(mode & 0o777),
			Resolve: resolve,
		})
	})
	if err != nil {
		return nil, nil, st, err
	}
	made, st, err := n.tree.adopt(fd, o, mode)
	if err != nil {
		if id, _, err := identify(fd); err == nil {
			unmake(at, id, name, 0)
		}
		files.drop(fd)
		return nil, nil, st, err
	}
	return made, newFile(made.Ref(), fd, flags), st, nil
}

// adopt returns the node of a file that was just made and is open by fd. Its
// descriptor is another one, that keeps nobody from running the file.
func (t *Tree) adopt(fd int, o Owner, mode uint32) (*Node, unix.Stat_t, error) {
	path, err := t.files.reopen(fd, unix.O_PATH)
	if err != nil {
		return nil, unix.Stat_t{}, err
	}
	n, st, err := newNode(t, path)
	if err != nil {
		return nil, st, err
	}
	if err := n.own(&st, o, mode); err != nil {
		n.Unref()
		return nil, st, err
	}
	return n, st, nil
}
