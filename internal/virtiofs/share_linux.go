package virtiofs

import (
	"errors"
	"hash/fnv"
	"sync"

	"github.com/byrevm/byre/internal/hostfs"
)

// A share is a folder that is served.
type share struct {
	tree   *hostfs.Tree
	number uint64 // in the order of their coming; never used twice
	salt   uint64 // of its files' numbers
	root   *node

	// users are requests, handles, and a reset. It grows only under Server.mu and while
	// the share is in Server.shares.
	users sync.WaitGroup
}

// insert adds a share. s.mu is held.
func (s *Server) insert(tree *hostfs.Tree) {
	s.lastShare++
	sh := &share{tree: tree, number: s.lastShare}
	root := tree.Root()
	if s.lastShare == 1 {
		s.device0 = root.ID().Dev
	}
	sh.salt = s.salt(root.ID().Dev)
	s.lastNode++
	sh.root = &node{id: s.lastNode, sh: sh, file: root.Ref(), open: true}
	s.nodes[sh.root.id] = sh.root
	s.files[sh.root.key()] = sh.root
	s.open++
	s.shares[tree.Name] = sh
}

// take takes all of a share out of the tables, and returns what it had. s.mu is
// held.
func (s *Server) take(sh *share) (old remains) {
	delete(s.shares, sh.tree.Name)
	for _, h := range s.handles {
		if h.n.sh == sh {
			delete(s.handles, h.id)
			old.handles = append(old.handles, h)
		}
	}
	for _, n := range s.nodes {
		if n.sh == sh {
			s.drop(n)
			old.nodes = append(old.nodes, n)
		}
	}
	return old
}

// reset forgets all that a driver has, as it ends or another one begins.
func (s *Server) reset() {
	s.ready.Store(false)
	s.locks.interruptAll()
	s.locks.cancel(func(*waiter) bool { return true })
	var old remains
	var shares []*share
	s.mu.Lock()
	for _, sh := range s.shares {
		sh.users.Add(1)
		shares = append(shares, sh)
	}
	for _, h := range s.handles {
		h.n.handles--
		delete(s.handles, h.id)
		old.handles = append(old.handles, h)
	}
	for _, n := range s.nodes {
		if n.lookups = 0; !n.isRoot() {
			s.drop(n)
			old.nodes = append(old.nodes, n)
		}
	}
	s.mu.Unlock()
	_ = old.end() // nobody is left to tell
	for _, sh := range shares {
		sh.users.Done()
	}
}

// remains are what was taken out of the tables.
type remains struct {
	handles []*handle
	nodes   []*node
}

// end closes all but what requests use. The error is what the host says then.
func (r remains) end() error {
	var errs []error
	for _, h := range r.handles {
		errs = append(errs, h.unref())
	}
	for _, n := range r.nodes {
		n.file.Unref()
	}
	return errors.Join(errs...)
}

// inode returns the number that a file has for the guest, to which all shares
// are one file system, from the one that it has in its share.
func (sh *share) inode(ino uint64) uint64 { return ino ^ sh.salt }

// salt is what the numbers of the files of a share differ by from those of
// others, unless it is on the file system of the first share.
func (s *Server) salt(dev uint64) uint64 {
	if dev == s.device0 {
		return 0
	}
	h := fnv.New64a()
	for i := range 8 {
		h.Write([]byte{byte(dev >> (8 * i))})
	}
	return h.Sum64()
}
