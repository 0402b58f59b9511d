package qemu

import (
	"context"
	"time"
)

// QEMU tells a guest by ACPI that a device is to go: by a bit that stays set
// until the guest ejects what is in the place. A guest that looks twice before
// it gets there, as other devices come and go, ejects twice, and the second
// time takes what has been plugged into that place since. It has not seen that
// device: ejections and arrivals wait in one queue. So the device is plugged in
// again, and nobody has missed it.

// lostWait is how long after it was plugged in a device is believed to have been
// ejected by mistake: no agent waits longer for one. Later it is the wish
// of the guest.
const lostWait = 10 * time.Second

// A plugged is a device that is plugged in again if a guest ejects it unasked.
type plugged struct {
	ids   []string // of its functions
	until time.Time
	turn  chan struct{} // holds a token while somebody plugs it in or lets it go
	plug  func(context.Context) error
	out   map[string]bool // functions that are ejected; guarded by the system's lock
}

// plugIn calls plug, and again each time that the guest ejects the device of
// those ids unasked, until letGo.
func (s *system) plugIn(ctx context.Context, plug func(context.Context) error, ids ...string) error {
	p := &plugged{ids: ids, until: time.Now().Add(lostWait), turn: make(chan struct{}, 1), plug: plug, out: make(map[string]bool)}
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	s.mu.Lock()
	for _, id := range ids {
		s.plugged[id] = p
	}
	s.mu.Unlock()
	err := plug(ctx)
	if err != nil {
		s.forget(p)
	}
	return err
}

// letGo ends what plugIn began: nobody plugs the device with that id in any
// more.
func (s *system) letGo(ctx context.Context, id string) error {
	s.mu.Lock()
	p := s.plugged[id]
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.forget(p)
	<-p.turn
	return nil
}

func (s *system) forget(p *plugged) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range p.ids {
		delete(s.plugged, id)
	}
}

// ejected plugs in again what a guest has ejected unasked, when all of it is
// out.
func (s *system) ejected(id string) {
	s.mu.Lock()
	p := s.plugged[id]
	whole := false
	if p != nil {
		p.out[id] = true
		if whole = len(p.out) == len(p.ids); whole {
			clear(p.out)
		}
	}
	s.mu.Unlock()
	if !whole || time.Now().After(p.until) {
		return
	}
	s.background(func() {
		ctx, cancel := context.WithTimeout(context.Background(), rollback)
		defer cancel()
		select {
		case p.turn <- struct{}{}:
			defer func() { <-p.turn }()
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		wanted := s.plugged[id] == p
		s.mu.Unlock()
		if !wanted {
			return
		}
		if err := p.plug(ctx); err != nil {
			s.log.Warn("device that the guest ejected not plugged in again", "device", id, "err", err)
		}
	})
}
