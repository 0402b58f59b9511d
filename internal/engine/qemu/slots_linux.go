package qemu

import (
	"context"
	"errors"

	"github.com/byrevm/byre/hcs"
)

// A device is something that can be plugged into a running machine.
type device interface {
	// add plugs it in. On error nothing is left.
	add(ctx context.Context, s *system) error
	// remove unplugs it and returns when it is gone, or kept: then the
	// machine cannot let go of it.
	remove(ctx context.Context, s *system) (kept bool, err error)
	// is reports whether other would be the same file in the same mode.
	is(other device) bool
	// writes reports whether the guest can change a file of the host by it.
	writes() bool
	// close gives up what a device holds that is not in the machine.
	close()
}

type slotState int

const (
	slotFree     slotState = iota
	slotAdding             // no device yet, or one that was kept
	slotPresent            //
	slotRemoving           //
	slotKept               // removed for everybody but the machine
)

// A slot is a place for a device, from the moment that it is asked for until
// it is free again. Who has set it to adding or removing works on it alone
// and settles it. The fields are guarded by the system's lock.
type slot struct {
	state slotState
	dev   device
	idle  chan struct{} // closed by settle
	err   error         // of the last removal
	off   bool          // adding was called off: to the callers the slot is as it was
}

// plug adds a device. If ctx ends first the device is taken out again; to the
// callers it is not there from then on, and who wants its slot waits.
func (s *system) plug(ctx context.Context, a attachment) error {
	sl, kept, err := s.reserve(ctx, a.path)
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	if !s.background(func() { result <- s.put(a, sl, kept) }) {
		return hcs.ErrStopped
	}
	select {
	case err = <-result:
	case <-ctx.Done():
		if s.callOff(sl) {
			return context.Cause(ctx)
		}
		err = <-result // it was done just before
	}
	return s.orStopped(err)
}

// reserve takes a slot for a device to come. It returns the device that was
// kept there, if one was.
func (s *system) reserve(ctx context.Context, p hcs.Path) (sl *slot, kept device, err error) {
	for {
		sl, kept, busy, err := s.tryReserve(p)
		if busy == nil {
			return sl, kept, err
		}
		select {
		case <-busy:
		case <-s.done:
			return nil, nil, hcs.ErrStopped
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// tryReserve returns a channel in place of a slot whose last adding was called
// off and is being undone.
func (s *system) tryReserve(p hcs.Path) (sl *slot, kept device, busy <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl = s.slots[p]
	switch {
	case sl == nil:
		sl = &slot{}
		s.slots[p] = sl
	case sl.state == slotKept:
		kept = sl.dev
	case sl.state == slotAdding && sl.off:
		return nil, nil, sl.idle, nil
	default:
		return nil, nil, nil, hcs.ErrAlreadyExists
	}
	sl.state, sl.idle, sl.off = slotAdding, make(chan struct{}), false
	return sl, kept, nil, nil
}

// callOff has what is being added taken out again. It reports false if the
// slot has been settled.
func (s *system) callOff(sl *slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.off = sl.state == slotAdding
	return sl.off
}

// settle ends the work on a slot.
func (s *system) settle(p hcs.Path, sl *slot, state slotState, dev device, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settleLocked(p, sl, state, dev, err)
}

// settlePresent ends the adding of a device, unless it was called off.
func (s *system) settlePresent(p hcs.Path, sl *slot, dev device) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !sl.off {
		s.settleLocked(p, sl, slotPresent, dev, nil)
	}
	return !sl.off
}

func (s *system) settleLocked(p hcs.Path, sl *slot, state slotState, dev device, err error) {
	sl.state, sl.dev, sl.err = state, dev, err
	if state == slotFree {
		delete(s.slots, p)
	}
	close(sl.idle)
}

// put does the work of plug. Nobody hears its result if it is called off.
func (s *system) put(a attachment, sl *slot, kept device) error {
	work, cancel := context.WithTimeout(context.Background(), rollback)
	defer cancel()
	dev, err := s.open(work, a)
	if kept != nil {
		if err == nil && !kept.is(dev) {
			err = errors.Join(hcs.ErrAlreadyExists, errors.New("the slot belongs to another file until the system stops"))
		}
		if dev != nil {
			dev.close()
		}
		if err != nil || !s.settlePresent(a.path, sl, kept) {
			s.settle(a.path, sl, slotKept, kept, nil)
		}
		return err
	}
	if err == nil {
		if err = dev.add(work, s); err != nil {
			dev.close()
		}
	}
	if err != nil {
		s.settle(a.path, sl, slotFree, nil, nil)
		return err
	}
	if s.settlePresent(a.path, sl, dev) {
		return nil
	}
	return s.take(work, a.path, sl, dev)
}

// unplug removes a device. A removal under way cannot be called off: when ctx
// ends first it goes on, and another Remove waits for it and finds nothing.
func (s *system) unplug(ctx context.Context, p hcs.Path) error {
	s.mu.Lock()
	sl := s.slots[p]
	if sl == nil || sl.state == slotAdding || sl.state == slotKept {
		s.mu.Unlock()
		return hcs.ErrNotFound
	}
	idle, dev, under := sl.idle, sl.dev, sl.state == slotRemoving
	if !under {
		idle = make(chan struct{})
		sl.state, sl.idle = slotRemoving, idle
	}
	s.mu.Unlock()

	result := make(chan error, 1)
	do := func() {
		work, cancel := context.WithTimeout(context.Background(), rollback)
		defer cancel()
		result <- s.take(work, p, sl, dev)
	}
	if under {
		do = func() {
			<-idle
			s.mu.Lock()
			defer s.mu.Unlock()
			if sl.err != nil {
				result <- sl.err
			} else {
				result <- hcs.ErrNotFound
			}
		}
	}
	if !s.background(do) {
		return hcs.ErrStopped
	}
	return s.await(ctx, result)
}

// take removes a device from the machine and settles its slot.
func (s *system) take(ctx context.Context, p hcs.Path, sl *slot, dev device) error {
	kept, err := dev.remove(ctx, s)
	switch {
	case err != nil:
		s.settle(p, sl, slotPresent, dev, err)
	case kept:
		s.settle(p, sl, slotKept, dev, nil)
	default:
		dev.close()
		s.settle(p, sl, slotFree, nil, nil)
	}
	return err
}

// await returns what comes first of the result and the end of ctx.
func (s *system) await(ctx context.Context, result <-chan error) error {
	select {
	case err := <-result:
		return s.orStopped(err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// writes reports whether QEMU writes to any file. s.mu is held.
func (s *system) writes() bool {
	for _, sl := range s.slots {
		if sl.dev != nil && sl.dev.writes() {
			return true
		}
	}
	return false
}
