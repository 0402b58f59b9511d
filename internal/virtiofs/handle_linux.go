package virtiofs

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// A handle is a file that the guest has open. It ends when the guest has
// released it, or the share is removed, and no request uses it any more.
type handle struct {
	s    *Server
	id   uint64
	n    *node
	file *hostfs.File

	refs  atomic.Int32 // of requests, and one while it is in Server.handles
	wrote atomic.Bool  // since the last FLUSH
}

// handle returns the handle fh of the node id, which stays until release is
// called.
func (s *Server) handle(fh, id uint64) (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.handles[fh]
	switch {
	case h != nil && h.n.id == id:
		h.refs.Add(1)
		return h, nil
	case s.nodes[id] == nil:
		return nil, unix.ESTALE
	}
	return nil, unix.EBADF
}

// release is called once for each handle that [Server.handle] returned.
func (h *handle) release() { _ = h.unref() }

// unref gives a reference up. The last one closes the file; the error is what
// the host says then.
func (h *handle) unref() error {
	if h.refs.Add(-1) > 0 {
		return nil
	}
	h.s.dropLocks(h)
	err := h.file.Close()
	h.n.sh.users.Done()
	return err
}

// newHandle makes a handle of a file that was opened, which it takes over also
// when it fails.
func (s *Server) newHandle(n *node, f *hostfs.File) (*handle, error) {
	s.mu.Lock()
	var err error
	switch {
	case n.dead:
		err = unix.ESTALE
	case len(s.handles) >= s.config.MaxHandles:
		err = unix.ENFILE
	}
	if err != nil {
		s.mu.Unlock()
		_ = f.Close() // nothing was written to it
		return nil, err
	}
	s.lastHandle++
	h := &handle{s: s, id: s.lastHandle, n: n, file: f}
	h.refs.Store(1)
	n.sh.users.Add(1)
	n.handles++
	s.sort(n)
	s.handles[h.id] = h
	s.mu.Unlock()
	return h, nil
}

// removeHandle takes a handle away from the guest; the caller has the reference
// that the table had. s.mu is held.
func (s *Server) removeHandle(h *handle) {
	delete(s.handles, h.id)
	h.n.handles--
	s.settle(h.n)
}

// closeHandle is what RELEASE does.
func (s *Server) closeHandle(fh, id uint64) error {
	s.mu.Lock()
	h := s.handles[fh]
	if h == nil || h.n.id != id {
		s.mu.Unlock()
		return unix.EBADF
	}
	s.removeHandle(h)
	s.mu.Unlock()
	return h.unref()
}
