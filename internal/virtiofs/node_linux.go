package virtiofs

import (
	"container/list"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// A node is a file that the guest knows by a number.
type node struct {
	id   uint64
	sh   *share
	file *hostfs.Node // has a reference until the node is dead

	// The rest is guarded by Server.mu.

	lookups  uint64 // how often the guest was told the number, less what it forgot
	handles  int
	children int    // nodes whose parent it is
	parent   *node  // nil: the folder of a share, or what has lost its name
	name     string // in parent, when it was seen last
	open     bool   // file has its descriptor
	dead     bool   // in no table any more

	warm *list.Element // in Server.warm: the descriptor may be given up
	idle *list.Element // in Server.idle: the node may be forgotten
}

// A fileKey tells a file of a share from all others.
type fileKey struct {
	sh *share
	id hostfs.ID
}

// A nameKey is where a node was seen last.
type nameKey struct {
	parent *node
	name   string
}

func (n *node) key() fileKey     { return fileKey{n.sh, n.file.ID()} }
func (n *node) nameKey() nameKey { return nameKey{n.parent, n.name} }
func (n *node) isRoot() bool     { return n == n.sh.root }

// A use is a node that a request works on: its share is not gone before the use
// is released, and its descriptor is there.
type use struct {
	n    *node
	file *hostfs.Node
}

func (u use) release() {
	u.file.Unpin()
	u.file.Unref()
	u.n.sh.users.Done()
}

// use returns the node id, which the caller releases.
func (s *Server) use(id uint64) (use, error) {
	s.mu.Lock()
	n := s.nodes[id]
	if n == nil {
		s.mu.Unlock()
		return use{}, unix.ESTALE
	}
	u := use{n, n.file.Ref()}
	n.sh.users.Add(1)
	s.touch(n)
	pinned := u.file.Pin()
	s.mu.Unlock()
	if pinned {
		return u, nil
	}
	if err := s.reopen(n); err != nil {
		u.file.Unref()
		n.sh.users.Done()
		return use{}, err
	}
	return u, nil
}

// found returns the node of the file f that was found under a name of the folder
// dir, and counts it among what the guest has to forget. It takes f over, also
// when it fails.
func (s *Server) found(dir *node, name string, f *hostfs.Node) (*node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dir.dead {
		f.Unref()
		return nil, unix.ESTALE
	}
	n := s.files[fileKey{dir.sh, f.ID()}]
	if n == nil {
		for len(s.nodes) >= s.config.MaxNodes {
			if !s.forgetIdle(dir) {
				f.Unref()
				return nil, unix.ENFILE
			}
		}
		n = s.newNode(dir.sh, f)
	} else {
		f.Unref() // the node has one, or gets it by the name that it has now
	}
	n.lookups++
	if !n.isRoot() {
		s.place(n, dir, name)
	}
	s.touch(n)
	s.trim()
	return n, nil
}

// named returns the node that was seen last by a name of the folder dir.
func (s *Server) named(dir *node, name string) *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[nameKey{dir, name}]
}

// seen is [Server.found] of a node that is known. It is false if it is not any
// more.
func (s *Server) seen(n *node) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.dead {
		return false
	}
	n.lookups++
	s.touch(n)
	return true
}

// newNode makes the node of a file, whose descriptor is there. s.mu is held.
func (s *Server) newNode(sh *share, f *hostfs.Node) *node {
	s.lastNode++
	n := &node{id: s.lastNode, sh: sh, file: f, open: true}
	s.nodes[n.id] = n
	s.files[n.key()] = n
	s.open++
	return n
}

// forget takes count of what the guest was told off a node.
func (s *Server) forget(id, count uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[id]; n != nil {
		n.lookups -= min(n.lookups, count)
		s.settle(n)
	}
}

// settle ends a node that nobody knows any more, and those above it that lasted
// for its sake. s.mu is held.
func (s *Server) settle(n *node) {
	for n != nil && !n.dead {
		if n.lookups > 0 || n.handles > 0 || n.children > 0 || n.isRoot() {
			s.sort(n)
			return
		}
		above := s.drop(n)
		n.file.Unref()
		n = above
	}
}

// drop ends a node, and returns the one above it, which the caller settles. The
// reference to the file is the caller's now. s.mu is held.
func (s *Server) drop(n *node) (above *node) {
	above = s.unplace(n)
	delete(s.nodes, n.id)
	delete(s.files, n.key())
	if n.open {
		n.open = false
		s.open--
	}
	n.dead = true
	s.sort(n)
	return above
}
