package layers

import (
	"fmt"
	"path"
	"strings"
)

const (
	maxPath     = 4095 // PATH_MAX without its NUL, also for link targets
	maxName     = 255
	maxDepth    = 255 // elements of a path
	maxSymlinks = 40
)

// A walker is on its way along a path of the tree.
type walker struct {
	t     *tree
	dirs  []*node  // from the root to where it is
	names []string // of dirs, without the root's
	links int      // how many symbolic links it followed
}

// parent returns the directory that name is in, and its path. Symbolic links
// on the way are followed within the layer, as every unpacker does within the
// root; directories that have no entry are made.
func (t *tree) parent(name string) (*node, string, error) {
	w := walker{t: t, dirs: []*node{t.root}}
	rest := strings.Split(name, "/")
	rest = rest[:len(rest)-1]
	for len(rest) > 0 {
		if t.steps--; t.steps < 0 {
			return nil, "", fmt.Errorf("length of paths %w", ErrTooLarge)
		}
		target, err := w.step(rest[0])
		if err != nil {
			return nil, "", fmt.Errorf("below %.80q: %w", strings.Join(w.names, "/"), err)
		}
		rest = rest[1:]
		if target != "" {
			rest = append(strings.Split(target, "/"), rest...)
		}
	}
	at := strings.Join(w.names, "/")
	if len(at) > maxPath {
		return nil, "", fmt.Errorf("%w: path too long: %.80q", ErrInvalid, at)
	}
	return w.dirs[len(w.dirs)-1], at, nil
}

// step takes one element. It returns the target if that is a symbolic link.
func (w *walker) step(elem string) (target string, err error) {
	dir := w.dirs[len(w.dirs)-1]
	switch elem {
	case "", ".":
		return "", nil
	case "..":
		if n := len(w.names); n > 0 {
			w.names, w.dirs = w.names[:n-1], w.dirs[:n]
		}
		return "", nil
	}
	n := dir.children[elem]
	if n != nil && n.inode != nil {
		if n.inode.link == "" {
			return "", fmt.Errorf("%w: %.80q is not a directory", ErrInvalid, elem)
		}
		if w.links++; w.links > maxSymlinks {
			return "", fmt.Errorf("%w: too many symbolic links", ErrInvalid)
		}
		if strings.HasPrefix(n.inode.link, "/") {
			w.names, w.dirs = nil, w.dirs[:1]
		}
		return n.inode.link, nil
	}
	if len(elem) > maxName {
		return "", fmt.Errorf("%w: name too long: %.80q", ErrInvalid, elem)
	}
	if len(w.names) >= maxDepth {
		return "", fmt.Errorf("depth of folders %w", ErrTooLarge)
	}
	if n == nil || n.whiteout {
		hidden := n != nil
		if n, err = w.t.add(dir, elem); err != nil {
			return "", err
		}
		*n = node{by: -1, children: map[string]*node{}, opaque: hidden}
	}
	w.dirs, w.names = append(w.dirs, n), append(w.names, elem)
	return "", nil
}

// find returns the file that earlier entries made by this name, and the name
// with the symbolic links of its directory followed.
func (t *tree) find(name string) (*node, string, error) {
	name, err := cleanPath(name)
	if err != nil {
		return nil, "", err
	}
	dir, at, err := t.parent(name)
	if err != nil {
		return nil, "", err
	}
	n := dir.children[path.Base(name)]
	if n == nil || n.assumed() {
		return nil, "", fmt.Errorf("%w in the layer", ErrNotFound)
	}
	if n.inode == nil {
		return nil, "", fmt.Errorf("%w: not a file", ErrInvalid)
	}
	return n, path.Join(at, path.Base(name)), nil
}

// cleanPath makes a name of an archive relative to the layer's root, which it
// cannot leave.
func cleanPath(name string) (string, error) {
	if len(name) > maxPath+1 {
		return "", fmt.Errorf("%w: name too long: %.80q", ErrInvalid, name)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", fmt.Errorf("%w: NUL in name %.80q", ErrInvalid, name)
	}
	name = path.Clean("/" + name)[1:]
	if name == lostAlias {
		return "", fmt.Errorf("%w: name %q is taken", ErrInvalid, name)
	}
	if len(path.Base(name)) > maxName {
		return "", fmt.Errorf("%w: name too long: %.80q", ErrInvalid, name)
	}
	return name, nil
}
