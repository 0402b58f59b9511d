package virtiofs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// try takes or gives up a lock; [errGuestHas] and [errHostHas] mean that
// somebody else has it. f.mu is held.
func (f *lockFile) try(c *lockCall) error {
	if c.flock {
		return f.tryFlock(c)
	}
	if !c.unlock {
		if _, _, found := f.rival(c); found {
			return errGuestHas
		}
	}
	if !(c.unlock && c.span.whole()) && f.t.spans.Load()+2 > maxLockSpans {
		return unix.ENOLCK // there can be two more: of another kind, in the middle of one
	}
	host := c.span.host()
	if c.unlock {
		host.Type = unix.F_UNLCK
	}
	f.t.host.Lock()
	err := f.t.host.Set(c.file, c.owner, host)
	f.t.host.Unlock()
	switch {
	case busy(err):
		return errHostHas
	case errors.Is(err, unix.ENFILE), errors.Is(err, unix.EMFILE):
		return unix.ENOLCK // of its own descriptor
	case err != nil:
		return err
	}
	h := f.holders[c.owner]
	if h == nil {
		h = &holder{}
	}
	if !c.unlock {
		h.pid, f.recent = c.pid, c.owner // who unlocks does not say who it is
	}
	if _, had := h.spans.conflict(span{c.span.first, c.span.last, c.unlock}); had && (c.unlock || !c.span.write) {
		f.freed = true
	}
	f.keep(c.owner, h, h.spans.set(c.span, c.unlock))
	return nil
}

// rival returns an owner, and what it has, that is in the way of c. That the
// guest's own locks are kept here, too, spares system calls for many that wait,
// and makes an exclusive lock one, in the guest, where the host's is shared.
func (f *lockFile) rival(c *lockCall) (*holder, span, bool) {
	if h := f.holders[f.recent]; h != nil && f.recent != c.owner {
		if l, found := h.spans.conflict(c.span); found {
			return h, l, true
		}
	}
	for owner, h := range f.holders {
		if owner == c.owner {
			continue
		}
		if l, found := h.spans.conflict(c.span); found {
			f.recent = owner
			return h, l, true
		}
	}
	return nil, span{}, false
}

// keep notes what an owner has from now on.
func (f *lockFile) keep(owner ownerKey, h *holder, s spans) {
	f.t.spans.Add(int64(len(s) - h.count))
	h.spans, h.count = s, len(s)
	if len(s) > 0 {
		f.holders[owner] = h
	} else {
		delete(f.holders, owner)
	}
}

// forget is of an owner that has nothing of the file any more.
func (f *lockFile) forget(owner ownerKey) {
	if h := f.holders[owner]; h != nil {
		f.keep(owner, h, nil)
		f.freed = true
	}
}
