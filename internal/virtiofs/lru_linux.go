package virtiofs

import (
	"container/list"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// looks is how many nodes that turn out to be in use are passed over.
const looks = 64

// sort puts n where its state belongs: among those that may lose their
// descriptor, as they have a name to get it back by and no handle, and among
// those that may be forgotten, as nothing depends on them. s.mu is held.
func (s *Server) sort(n *node) {
	spare := !n.dead && n.handles == 0 && !n.isRoot()
	member(&s.warm, &n.warm, n, spare && n.open && n.parent != nil)
	member(&s.idle, &n.idle, n, spare && n.children == 0)
}

func member(l *list.List, e **list.Element, n *node, want bool) {
	switch {
	case want && *e == nil:
		*e = l.PushFront(n)
	case !want && *e != nil:
		l.Remove(*e)
		*e = nil
	}
}

// touch makes n the one that was used last. s.mu is held.
func (s *Server) touch(n *node) {
	s.sort(n)
	if n.warm != nil {
		s.warm.MoveToFront(n.warm)
	}
	if n.idle != nil {
		s.idle.MoveToFront(n.idle)
	}
}

// forgetIdle ends the node other than but that was not used for longest, though
// the guest may still know it. s.mu is held.
func (s *Server) forgetIdle(but *node) bool {
	for e := s.idle.Back(); e != nil; e = e.Prev() {
		if n := e.Value.(*node); n != but {
			s.settle(s.drop(n))
			n.file.Unref()
			return true
		}
	}
	return false
}

// cool takes the descriptor from the node that was not used for longest. s.mu is
// held.
func (s *Server) cool() bool {
	for range looks {
		e := s.warm.Back()
		if e == nil {
			return false
		}
		n := e.Value.(*node)
		if n.file.Release() {
			n.open = false
			s.open--
			s.sort(n)
			return true
		}
		s.warm.MoveToFront(e) // a request uses it
	}
	return false
}

// trim makes nodes keep no more descriptors than they may. s.mu is held.
func (s *Server) trim() {
	for s.open > s.config.MaxOpen && s.cool() {
	}
}

// spare is how many descriptors are left for what requests open.
func (s *Server) spare() int { return min(128, s.config.Files.Max()/4) }

// room takes descriptors from nodes so that a request finds some left. Whoever
// needs one calls it before, as what has been done half cannot be tried again.
func (s *Server) room() {
	if s.config.Files.Held()+s.spare() <= s.config.Files.Max() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.config.Files.Held()+s.spare() > s.config.Files.Max() && s.cool() {
	}
}

// maxDepth is how many folders a node without a descriptor may be below one that
// has one: as deep as a path leads.
const maxDepth = 2048

// reopen gets the descriptor of n back, and pins it. The caller has a reference
// to n.file.
func (s *Server) reopen(n *node) error {
	type step struct {
		n    *node
		file *hostfs.Node
		name string
	}
	var steps []step
	var at *hostfs.Node // pinned, with a reference
	s.mu.Lock()
	for p := n; p != nil && len(steps) < maxDepth; p = p.parent {
		if p.file.Pin() {
			at = p.file.Ref()
			break
		}
		steps = append(steps, step{p, p.file.Ref(), p.name})
	}
	s.mu.Unlock()
	var err error = unix.ESTALE
	if at != nil {
		err = nil
	}
	for i := len(steps) - 1; i >= 0; i-- {
		st := steps[i]
		if err == nil {
			s.room()
			err = st.file.Reacquire(at, st.name)
			at.Unpin()
			at.Unref()
		}
		if err != nil {
			st.file.Unref()
			continue
		}
		at = st.file
		s.mu.Lock()
		if !st.n.dead && !st.n.open {
			st.n.open = true
			s.open++
			s.touch(st.n)
			s.trim()
		}
		s.mu.Unlock()
	}
	if err == nil {
		at.Unref() // it stays pinned
		return nil
	}
	return err
}
