package virtiofs

import "golang.org/x/sys/unix"

// place notes that n is called name in the folder parent. What was there before
// has lost its name. A folder that the host has mounted within itself stays where
// it is. s.mu is held.
func (s *Server) place(n, parent *node, name string) {
	if n.parent == parent && n.name == name || n == parent {
		return
	}
	s.settle(s.unplace(n))
	if parent.dead {
		return
	}
	if n.children > 0 {
		s.untie(n, parent)
	}
	if old := s.names[nameKey{parent, name}]; old != nil {
		s.unplace(old)
		s.sort(old)
	}
	n.parent, n.name = parent, name
	s.names[n.nameKey()] = n
	parent.children++
	s.sort(parent)
	s.sort(n)
}

// unplace notes that n has no name that is known. It returns where it was, which
// the caller settles. s.mu is held.
func (s *Server) unplace(n *node) (above *node) {
	if above = n.parent; above == nil {
		return nil
	}
	delete(s.names, n.nameKey())
	n.parent, n.name = nil, ""
	above.children--
	return above
}

// untie makes sure that n, which is to be put in the folder at, is not above it.
// What the guest is told of what the host moves meanwhile can look so.
func (s *Server) untie(n, at *node) {
	for p := at; p != nil; p = p.parent {
		if p.parent == n {
			s.unplace(p)
			s.sort(p)
			return
		}
	}
}

// renamed notes what the guest has renamed.
func (s *Server) renamed(dir *node, old string, to *node, name string, flags uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.names[nameKey{dir, old}]
	other := s.names[nameKey{to, name}]
	if n == other { // names of one file, which both stay, or no node at all
		return
	}
	if other != nil {
		s.settle(s.unplace(other))
		s.settle(other)
	}
	if n != nil {
		s.place(n, to, name)
	}
	if flags&unix.RENAME_EXCHANGE != 0 && other != nil && !other.dead {
		s.place(other, dir, old)
	}
}

// unlinked notes that the guest has removed a name.
func (s *Server) unlinked(dir *node, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.names[nameKey{dir, name}]; n != nil {
		s.settle(s.unplace(n))
		s.settle(n)
	}
}
