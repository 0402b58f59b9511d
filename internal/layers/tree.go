package layers

import (
	"archive/tar"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// A tree is what a layer's archive adds up to: later entries replace earlier
// ones, and whiteouts hide only what lower layers have.
type tree struct {
	root   *node
	left   int   // how many more names there may be
	memory int64 // how many more bytes names, links and attributes may take
	steps  int64 // how many more elements of paths may be looked up
	// replaced is set once an entry that makes a file was followed by one
	// that takes its name: the entries in order then no longer make the tree.
	replaced bool
	// xattrs is set once a file has attributes.
	xattrs bool
}

// A node is a name. Hard links are several nodes with one inode.
type node struct {
	by       int // the entry that gave the name to this inode, -1 for none
	inode    *inode
	children map[string]*node // of a directory
	dir      *tar.Header      // of a directory that has an entry of its own
	opaque   bool             // hides a lower directory of this name
	fresh    bool             // it, or a directory that it is in, is opaque; set at the end
	whiteout bool             // hides whatever has this name below
}

// An inode is one file, made by one entry. A directory has none.
type inode struct {
	entry int
	link  string // where a symbolic link leads, never empty
}

// What the tree of a layer may take in memory, and its paths in elements, on
// average for each of the files that it may have.
const (
	memoryPerFile = 512
	stepsPerFile  = 256
)

func newTree(maxFiles int) *tree {
	return &tree{
		root:   &node{by: -1, children: map[string]*node{}},
		left:   maxFiles,
		memory: int64(maxFiles) * memoryPerFile,
		steps:  int64(maxFiles) * stepsPerFile,
	}
}

func (n *node) isDir() bool { return n.children != nil }

// assumed reports whether a node only stands for a link of a layer below.
func (n *node) assumed() bool { return n.inode != nil && n.inode.entry < 0 }

// written reports whether a node is on the disk by way of an entry or of
// entries below it.
func (n *node) written() bool { return n != nil && !n.whiteout && !n.assumed() }

// An act says what the archive that is handed on needs for an entry.
type act struct {
	name   string // where the entry lands
	target string // the other name, of a hard link
	emit   bool   // false for directories and whiteouts, which follow at the end
}

// apply adds entry i to the tree.
func (t *tree) apply(i int, h *tar.Header) (act, error) {
	name, err := cleanPath(h.Name)
	if err != nil {
		return act{}, err
	}
	base := path.Base(name)
	if strings.HasPrefix(base, whiteoutPrefix) {
		return act{}, t.whiteout(name, base)
	}
	if err := t.spend(extra(h)); err != nil {
		return act{}, err
	}
	t.xattrs = t.xattrs || len(h.PAXRecords) > 0
	if h.Typeflag == tar.TypeDir && name == "" {
		t.root.dir = h
		return act{}, nil
	}
	if name == "" {
		return act{}, fmt.Errorf("%w: the root is not a directory", ErrInvalid)
	}
	parent, dir, err := t.parent(name)
	if err != nil {
		return act{}, err
	}
	name = path.Join(dir, base)
	old := parent.children[base]
	replaces := old.written()
	if h.Typeflag == tar.TypeDir {
		if old == nil || !old.isDir() {
			n, err := t.add(parent, base)
			if err != nil {
				return act{}, err
			}
			*n = node{by: -1, children: map[string]*node{}, opaque: old != nil}
			t.replaced = t.replaced || replaces
		}
		parent.children[base].dir = h
		return act{name: name}, nil
	}
	a := act{name: name, emit: true}
	ino := &inode{entry: i}
	if h.Typeflag == tar.TypeSymlink {
		ino.link = h.Linkname
	}
	if h.Typeflag == tar.TypeLink {
		n, at, err := t.find(h.Linkname)
		if err != nil {
			return act{}, fmt.Errorf("link to %q: %w", h.Linkname, err)
		}
		if n == old {
			return act{}, nil // a link to itself
		}
		ino, a.target = n.inode, at
	}
	if _, err := t.add(parent, base); err != nil {
		return act{}, err
	}
	t.replaced = t.replaced || replaces
	*parent.children[base] = node{by: i, inode: ino}
	return a, nil
}

// whiteout notes that name, whose last element has the prefix, hides.
func (t *tree) whiteout(name, base string) error {
	if base == whiteoutOpaque {
		// The directory is found like the parent of an ordinary name.
		dir, _, err := t.parent(path.Join(path.Dir(name), "x"))
		if err == nil {
			dir.opaque = true
		}
		return err
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if strings.HasPrefix(base, whiteoutMeta) {
		return nil // housekeeping of old storage drivers
	}
	if hidden == "" || hidden == "." || hidden == ".." {
		return fmt.Errorf("%w: whiteout %q", ErrInvalid, name)
	}
	dir, _, err := t.parent(name)
	if err != nil {
		return err
	}
	switch old := dir.children[hidden]; {
	case old == nil, old.assumed():
		n, err := t.add(dir, hidden)
		if err != nil {
			return err
		}
		*n = node{by: -1, whiteout: true}
	case old.isDir():
		old.opaque = true
	}
	return nil
}

// add makes or finds the node of a name, and counts it.
func (t *tree) add(parent *node, base string) (*node, error) {
	if n := parent.children[base]; n != nil {
		return n, nil
	}
	if t.left--; t.left < 0 {
		return nil, fmt.Errorf("number of files %w", ErrTooLarge)
	}
	if err := t.spend(len(base)); err != nil {
		return nil, err
	}
	n := &node{}
	parent.children[base] = n
	return n, nil
}

// spend counts n bytes that the tree keeps.
func (t *tree) spend(n int) error {
	if t.memory -= int64(n); t.memory < 0 {
		return fmt.Errorf("length of names and attributes %w", ErrTooLarge)
	}
	return nil
}

// names returns the names in a directory, sorted.
func (n *node) names() []string {
	return slices.Sorted(maps.Keys(n.children))
}

// walk calls fn for each node below n, sorted, parents first.
func (n *node) walk(at string, fn func(name string, n *node) error) error {
	for _, name := range n.names() {
		child := n.children[name]
		p := path.Join(at, name)
		if err := fn(p, child); err != nil {
			return err
		}
		if err := child.walk(p, fn); err != nil {
			return err
		}
	}
	return nil
}

// extra is how many bytes of a header the tree keeps beside the name.
func extra(h *tar.Header) int {
	switch h.Typeflag {
	case tar.TypeSymlink:
		return len(h.Linkname)
	case tar.TypeDir:
		n := 200
		for k, v := range h.PAXRecords {
			n += len(k) + len(v)
		}
		return n
	}
	return 0
}
