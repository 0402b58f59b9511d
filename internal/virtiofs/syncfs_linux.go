package virtiofs

import "sync"

// A syncer writes what the file systems of the shares have not yet written. That
// is much, for each of them is the host's as a whole, and can take long: one
// call at a time does it for all who have asked before it began.
type syncer struct {
	mu      sync.Mutex // held for moments; guards the rest
	next    []*request
	running bool
	wg      sync.WaitGroup
}

// syncfs: padding[8] -> nothing
func (r *request) syncfs() error {
	r.d.u64()
	if err := r.bad(); err != nil {
		return err
	}
	s := r.s
	s.syncs.mu.Lock()
	defer s.syncs.mu.Unlock()
	s.syncs.next = append(s.syncs.next, r)
	if !s.syncs.running {
		s.syncs.running = true
		s.syncs.wg.Go(s.syncAll)
	}
	return errLater
}

func (s *Server) syncAll() {
	for {
		s.syncs.mu.Lock()
		batch := s.syncs.next
		s.syncs.next = nil
		s.syncs.running = len(batch) > 0
		s.syncs.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		err := s.syncShares()
		for _, r := range batch {
			r.answer(err)
		}
	}
}

// syncShares writes what the file systems of all shares have not written, each
// once. The first error is returned.
func (s *Server) syncShares() (first error) {
	s.mu.Lock()
	shares := make(map[uint64]*share)
	for _, sh := range s.shares {
		if dev := sh.root.file.ID().Dev; shares[dev] == nil {
			sh.users.Add(1)
			shares[dev] = sh
		}
	}
	s.mu.Unlock()
	for _, sh := range shares {
		if err := sh.tree.Sync(); err != nil && first == nil && sh.tree.Gone() == nil {
			first = err
		}
		sh.users.Done()
	}
	return first
}
