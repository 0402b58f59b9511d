package hostfs

import (
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Node is a file of the host: a descriptor that stands for the file, not for
// its name. Its methods are safe for concurrent use, while the caller has a
// reference.
type Node struct {
	tree *Tree
	id   ID
	kind uint32
	refs atomic.Int32

	// users are those who need the descriptor now; less than zero when it was
	// given up. fd is written while there is none.
	users atomic.Int64
	fd    int
	mu    sync.Mutex // held while the descriptor is given up or got back
}

// An ID tells a file of the host from all others, also from one that has its
// number later, if the file system knows when files came to be. One of another
// kind it tells in any case: what a node is was looked at once.
type ID struct {
	Dev, Ino uint64
	Btime    int64  // in nanoseconds since 1970, zero if it is not known
	Kind     uint32 // the S_IFMT bits of its mode, which never change
}

// newNode takes over fd, also when it fails.
func newNode(t *Tree, fd int) (*Node, unix.Stat_t, error) {
	id, st, err := identify(fd)
	if err != nil {
		t.files.drop(fd)
		return nil, st, err
	}
	n := &Node{tree: t, id: id, kind: id.Kind, fd: fd}
	n.refs.Store(1)
	return n, st, nil
}

// Ref returns n with one more reference.
func (n *Node) Ref() *Node {
	n.refs.Add(1)
	return n
}

// Unref gives a reference up. With the last one the node ends.
func (n *Node) Unref() {
	if n.refs.Add(-1) == 0 && n.fd >= 0 {
		n.tree.files.drop(n.fd)
	}
}

// Tree returns the tree that the node is in.
func (n *Node) Tree() *Tree { return n.tree }

// ID returns which file it is.
func (n *Node) ID() ID { return n.id }

// Ino returns the number that the file has for clients.
func (n *Node) Ino() uint64 { return n.tree.Inode(n.id.Dev, n.id.Ino) }

// Kind returns the S_IFMT bits of its mode, which never change.
func (n *Node) Kind() uint32 { return n.kind }

// IsDir reports whether it is a folder.
func (n *Node) IsDir() bool { return n.kind == unix.S_IFDIR }

// IsRoot reports whether it is the folder of the tree, however it was reached.
func (n *Node) IsRoot() bool {
	root := n.tree.root.id
	return n.id.Dev == root.Dev && n.id.Ino == root.Ino
}

// Stat returns its attributes. The number in them is the host's.
func (n *Node) Stat() (st unix.Stat_t, err error) {
	fd, err := n.use()
	if err != nil {
		return st, err
	}
	defer n.done()
	return fstat(fd)
}

// Statfs returns the state of the file system that it is in.
func (n *Node) Statfs() (st unix.Statfs_t, err error) {
	fd, err := n.use()
	if err != nil {
		return st, err
	}
	defer n.done()
	return st, again(func() error { return unix.Fstatfs(fd, &st) })
}

// Lookup returns the file name of the folder n, which it does not follow, and
// its attributes. The caller gives the reference up.
func (n *Node) Lookup(name string) (*Node, unix.Stat_t, error) {
	fd, err := n.beneath(name)
	if err != nil {
		return nil, unix.Stat_t{}, err
	}
	return newNode(n.tree, fd)
}

// Identify returns which file Lookup would find, and its attributes. It is for
// who has that file, and need not open it once more.
func (n *Node) Identify(name string) (ID, unix.Stat_t, error) {
	if err := n.mayLook(name); err != nil {
		return ID{}, unix.Stat_t{}, err
	}
	at, err := n.use()
	if err != nil {
		return ID{}, unix.Stat_t{}, err
	}
	defer n.done()
	return identifyAt(at, name, unix.AT_SYMLINK_NOFOLLOW)
}

// mayLook reports why the name in the folder n cannot be looked up.
func (n *Node) mayLook(name string) error {
	if !n.tree.sees(n, name) {
		return unix.ENOENT
	}
	if err := CheckName(name); err != nil {
		return err
	}
	if !n.IsDir() {
		return unix.ENOTDIR
	}
	return nil
}

// beneath opens the file name of the folder n, for what it is.
func (n *Node) beneath(name string) (int, error) {
	if err := n.mayLook(name); err != nil {
		return -1, err
	}
	at, err := n.use()
	if err != nil {
		return -1, err
	}
	defer n.done()
	return n.tree.files.take(func() (int, error) { return openName(at, name) })
}

// openName opens a file of a folder, for what it is. The name is one of
// CheckName's.
func openName(folder int, name string) (int, error) {
	return unix.Openat2(folder, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: resolve,
	})
}

// resolve keeps a look-up in the folder that it begins in.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS

const procFolder = "/proc/self/fd/"

// procPath returns a path that leads to the file of a descriptor itself, for
// system calls that take no descriptor of a file that is not open. It is one
// hop through a table of this process; no name in a tree is resolved.
func procPath(fd int) string { return procFolder + strconv.Itoa(fd) }
