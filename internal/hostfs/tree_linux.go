package hostfs

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Share is a folder that clients can reach.
type Share struct {
	// Name is what clients know it by: not empty, and no other share's.
	Name string

	// Path is the folder, absolute. It is resolved when the share is added.
	Path string

	// ReadOnly refuses whatever changes the folder or a file in it.
	ReadOnly bool

	// AllowedNames, if not nil, are the only names of the folder itself that
	// clients see and can make. What is below them is seen whole.
	AllowedNames []string
}

// A Tree is a share that is served. Its methods are safe for concurrent use.
type Tree struct {
	Share
	files   *Files
	root    *Node
	allowed map[string]bool // nil means all

	gone  atomic.Bool
	once  sync.Once     // guards the closing of over
	over  chan struct{} // closed after gone is set
	close sync.Once
}

// Open opens the folder of a share, which stays the same whatever its path
// leads to later. The caller closes the tree.
func (f *Files) Open(sh Share) (*Tree, error) {
	switch {
	case sh.Name == "" || len(sh.Name) > MaxName:
		return nil, fmt.Errorf("a share cannot be named %q", sh.Name)
	case !filepath.IsAbs(sh.Path):
		return nil, fmt.Errorf("folder %q is not an absolute path", sh.Path)
	}
	if err := checkProc(); err != nil {
		return nil, fmt.Errorf("serving files needs /proc: %w", err)
	}
	t := &Tree{Share: sh, files: f, over: make(chan struct{})}
	if sh.AllowedNames != nil {
		t.allowed = make(map[string]bool, len(sh.AllowedNames))
		for _, name := range sh.AllowedNames {
			if CheckName(name) != nil {
				return nil, fmt.Errorf("%q is not the name of a file in a folder", name)
			}
			t.allowed[name] = true
		}
	}
	fd, err := f.take(func() (int, error) {
		return unix.Open(sh.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: sh.Path, Err: err}
	}
	if t.root, _, err = newNode(t, fd); err != nil {
		return nil, &os.PathError{Op: "stat", Path: sh.Path, Err: err}
	}
	if !t.root.IsDir() {
		t.root.Unref()
		return nil, &os.PathError{Op: "open", Path: sh.Path, Err: unix.ENOTDIR}
	}
	return t, nil
}

// Root returns the folder itself. It lasts until Close; who needs it longer
// calls [Node.Ref] before.
func (t *Tree) Root() *Node { return t.root }

// End makes every later use of a node of the tree ESTALE. What is under way,
// and files that are open, go on: the server ends them.
func (t *Tree) End() {
	t.gone.Store(true)
	t.once.Do(func() { close(t.over) })
}

// Ended returns a channel that End closes.
func (t *Tree) Ended() <-chan struct{} { return t.over }

// Gone returns ESTALE after End.
func (t *Tree) Gone() error {
	if t.gone.Load() {
		return unix.ESTALE
	}
	return nil
}

// Close ends the tree and lets go of its folder. A second call does nothing.
func (t *Tree) Close() {
	t.End()
	t.close.Do(t.root.Unref)
}

// Writable returns EROFS if nothing in the tree can be changed.
func (t *Tree) Writable() error {
	if t.ReadOnly {
		return unix.EROFS
	}
	return nil
}

// Inode returns the number that a file has for clients: its own, or, where
// another file system is mounted below the folder, one that differs.
func (t *Tree) Inode(dev, ino uint64) uint64 {
	if dev == t.root.id.Dev {
		return ino
	}
	h := fnv.New64a()
	for i := range 8 {
		h.Write([]byte{byte(dev >> (8 * i))})
	}
	return ino ^ h.Sum64()
}

// Sync writes what the file system of the folder has not yet written.
func (t *Tree) Sync() error {
	f, _, err := t.root.Open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	return again(func() error { return unix.Syncfs(f.fd) })
}

// sees reports whether name in the folder n exists for clients.
func (t *Tree) sees(n *Node, name string) bool {
	return t.allowed == nil || !n.IsRoot() || t.allowed[name]
}

// checkProc makes sure that [procPath] is what it says.
func checkProc() error {
	var st unix.Statfs_t
	if err := unix.Statfs(procFolder, &st); err != nil {
		return err
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("/proc is not mounted")
	}
	return nil
}
