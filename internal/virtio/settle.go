//go:build linux

package virtio

import (
	"runtime/debug"
	"slices"
)

// settle makes the rings usable, or not, after a message has changed one.
func (b *Backend) settle() {
	up, began := b.run()
	if b.model.Settled != nil {
		b.model.Settled(up)
	}
	for _, r := range began { // kicks may have come too early
		r.Nudge()
	}
}

// run sets those rings running that can, and returns whether all do and which
// of them are new.
func (b *Backend) run() (up bool, began []*Ring) {
	b.lockRings()
	defer b.leaveRings(debug.SetPanicOnFault(true))
	up, idle := true, false
	for _, r := range b.model.Rings {
		up = up && b.usable(r)
		idle = idle || r.kick == nil
	}
	all := true // ran before
	for _, r := range b.model.Rings {
		all = all && r.running
	}
	for i, r := range b.model.Rings {
		was, now := r.running, b.usable(r)
		if b.model.Together {
			was, now = all, up
		}
		if now && !was {
			r.indirect = b.features&featIndirect != 0
			r.events = b.features&featEvents != 0
			r.start()
			if b.model.Started != nil {
				b.model.Started(i)
			}
			began = append(began, r)
		}
		r.running = now
	}
	if idle && b.model.Cleared != nil {
		b.model.Cleared()
	}
	return up, began
}

// usable reports whether the ring can be used. Without protocol features rings
// are always enabled.
func (b *Backend) usable(r *Ring) bool {
	return !r.broken && r.kick != nil && r.desc != nil && (r.enabled || b.features&featProtocol == 0)
}

func (b *Backend) lockRings() {
	for _, r := range slices.Backward(b.model.Rings) {
		r.Lock()
	}
}

func (b *Backend) unlockRings() {
	for _, r := range b.model.Rings {
		r.Unlock()
	}
}

// leaveRings is [Ring.Leave] for all of them.
func (b *Backend) leaveRings(old bool) {
	debug.SetPanicOnFault(old)
	v := recover()
	if v != nil {
		for _, r := range b.model.Rings {
			r.Fail()
		}
	}
	b.unlockRings()
	b.fault(v)
}

// Nudge has who waits for the ring's kicks look at the ring.
func (r *Ring) Nudge() {
	r.Lock()
	k := r.kick
	r.Unlock()
	if k != nil {
		k.nudge()
	}
}
