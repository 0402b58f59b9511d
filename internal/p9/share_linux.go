package p9

import (
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Share is a folder that clients can attach to.
type Share struct {
	// Name is what clients attach to: not empty, and no other share's.
	Name string

	// Path is the folder, absolute. It is resolved when the share is added.
	Path string

	// ReadOnly refuses whatever changes the folder or a file in it.
	ReadOnly bool

	// AllowedNames, if not nil, are the only names of the folder itself that
	// clients see and can make. What is below them is seen whole.
	AllowedNames []string
}

// share is a Share that is served.
type share struct {
	Share
	root    *node
	allowed map[string]bool // nil means all

	gone atomic.Bool   // set before the fids are ended
	over chan struct{} // closed after gone is set
}

func newShare(s *Server, sh Share) (*share, error) {
	switch {
	case sh.Name == "" || len(sh.Name) > maxName:
		return nil, fmt.Errorf("a share cannot be named %q", sh.Name)
	case !filepath.IsAbs(sh.Path):
		return nil, fmt.Errorf("folder %q is not an absolute path", sh.Path)
	}
	if err := checkProc(); err != nil {
		return nil, fmt.Errorf("serving files needs /proc: %w", err)
	}
	r := &share{Share: sh, over: make(chan struct{})}
	if sh.AllowedNames != nil {
		r.allowed = make(map[string]bool, len(sh.AllowedNames))
		for _, name := range sh.AllowedNames {
			if checkName(name) != nil {
				return nil, fmt.Errorf("%q is not the name of a file in a folder", name)
			}
			r.allowed[name] = true
		}
	}
	fd, err := s.openFile(func() (int, error) {
		return unix.Open(sh.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: sh.Path, Err: err}
	}
	if r.root, err = newNode(s, fd); err != nil {
		return nil, &os.PathError{Op: "stat", Path: sh.Path, Err: err}
	}
	if !r.root.isDir() {
		r.root.unref()
		return nil, &os.PathError{Op: "open", Path: sh.Path, Err: unix.ENOTDIR}
	}
	return r, nil
}

// isRoot reports whether n is the folder of the share, however it was reached.
func (sh *share) isRoot(n *node) bool { return n.dev == sh.root.dev && n.ino == sh.root.ino }

// sees reports whether name in the folder n exists for clients.
func (sh *share) sees(n *node, name string) bool {
	return sh.allowed == nil || !sh.isRoot(n) || sh.allowed[name]
}

// mayChange reports why the name in the folder n cannot be made, changed or
// removed.
func (sh *share) mayChange(n *node, name string, missing error) error {
	switch err := checkName(name); {
	case err != nil:
		return err
	case !n.isDir():
		return unix.ENOTDIR
	case !sh.sees(n, name):
		return missing
	}
	return sh.writable()
}

func (sh *share) writable() error {
	if sh.ReadOnly {
		return unix.EROFS
	}
	return nil
}

// inode returns the number that a file has for clients: its own, or, where
// another file system is mounted below the share, one that differs.
func (sh *share) inode(dev, ino uint64) uint64 {
	if dev == sh.root.dev {
		return ino
	}
	h := fnv.New64a()
	for i := range 8 {
		h.Write([]byte{byte(dev >> (8 * i))})
	}
	return ino ^ h.Sum64()
}

// errGone is what requests on a share that was removed get.
var errGone error = unix.ESTALE

var errExist = fmt.Errorf("a share of that name: %w", fs.ErrExist)
var errNotExist = fmt.Errorf("no share of that name: %w", fs.ErrNotExist)
