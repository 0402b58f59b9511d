//go:build linux

package virtio

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

func (b *Backend) ring(i uint32) (*Ring, error) {
	if uint64(i) >= uint64(len(b.model.Rings)) {
		return nil, fmt.Errorf("no ring %d", i)
	}
	return b.model.Rings[i], nil
}

// setVringState handles the requests of {index u32, number u32}.
func (b *Backend) setVringState(m *message) error {
	if err := m.want(8, 0); err != nil {
		return err
	}
	r, err := b.ring(m.u32(0))
	if err != nil {
		return err
	}
	n := m.u32(4)
	r.Lock()
	switch {
	case m.request == reqSetVringEnable && n <= 1:
		r.enabled = n == 1
	case m.request != reqSetVringEnable && r.kick != nil:
		err = errors.New("the ring is running")
	case m.request == reqSetVringNum && n > 0 && n <= maxRing && n&(n-1) == 0:
		r.num = uint16(n)
		r.addressed = false
	case m.request == reqSetVringBase && n <= 0xffff:
		r.next = uint16(n)
	default:
		err = fmt.Errorf("ring value %d out of range", n)
	}
	r.Unlock()
	b.settle()
	return err
}

// setVringAddr says where the tables are: index u32, flags u32, then u64
// addresses of descriptors, used, available, log, in QEMU's address space.
func (b *Backend) setVringAddr(m *message) error {
	if err := m.want(40, 0); err != nil {
		return err
	}
	r, err := b.ring(m.u32(0))
	if err != nil {
		return err
	}
	if m.u32(4) != 0 {
		return errors.New("logging was not offered")
	}
	r.Lock()
	if r.num == 0 {
		err = errors.New("the ring has no size")
	} else {
		r.descAt, r.usedAt, r.availAt = m.u64(8), m.u64(16), m.u64(24)
		r.addressed = true
		err = r.remap(b.mem)
	}
	r.Unlock()
	b.settle()
	return err
}

// setVringFile takes an eventfd: number u64, its low byte the ring; bit 8 says
// that there is none.
func (b *Backend) setVringFile(m *message) error {
	if len(m.payload) != 8 {
		return m.want(8, 1)
	}
	v := m.u64(0)
	none := v&0x100 != 0
	if v>>9 != 0 || none == (len(m.fds) == 1) || len(m.fds) > 1 {
		return fmt.Errorf("ring file %#x with %d descriptors", v, len(m.fds))
	}
	r, err := b.ring(uint32(v & 0xff))
	if err != nil {
		return err
	}
	switch {
	case m.request == reqSetVringKick && none:
		return errors.New("polling is not supported")
	case m.request == reqSetVringKick:
		k, err := m.takeKick()
		if err != nil {
			return err
		}
		b.startRing(int(v&0xff), r, k)
	case m.request == reqSetVringCall:
		fd := -1
		if !none {
			fd = m.fds[0]
			if err := unix.SetNonblock(fd, true); err != nil {
				return err
			}
			m.fds = m.fds[:0]
		}
		r.Lock()
		r.setCall(fd)
		r.Unlock()
	}
	b.settle() // the descriptor for errors is not used
	return nil
}

// setCall replaces the eventfd that interrupts the guest. An interrupt more is
// harmless, one less is not.
func (r *Ring) setCall(fd int) {
	if r.call >= 0 {
		_ = unix.Close(r.call)
	}
	r.call = fd
	notify(fd)
}

// startRing replaces the eventfd that the guest kicks; with it, the ring starts.
func (b *Backend) startRing(i int, r *Ring, k *Kick) {
	r.Lock()
	old := r.kick
	r.kick = k
	if r.desc == nil {
		_ = r.remap(b.mem) // without its tables it rests
	}
	r.Unlock()
	if old != nil {
		old.close() // and who waits for it ends
	}
	k.of = b
	b.kicks.Add(1) // until Free
	b.model.Kicks(i, k)
}

// Wait waits until the guest kicks; false when the ring was stopped.
func (b *Backend) Wait(k *Kick) bool {
	err := k.wait()
	if err != nil && !errors.Is(err, os.ErrClosed) {
		b.Stop(fmt.Errorf("waiting for the guest: %w", err))
	}
	return err == nil
}

// getVringBase stops a ring and tells how far it came. The guest's driver has
// gone, or the VM was stopped.
func (b *Backend) getVringBase(m *message) ([]byte, error) {
	if err := m.want(8, 0); err != nil {
		return nil, err
	}
	i := m.u32(0)
	r, err := b.ring(i)
	if err != nil {
		return nil, err
	}
	b.drain()
	r.Lock()
	r.stop()
	next := r.next
	r.Unlock()
	b.settle()
	b.model.Stopped(int(i))
	return u64(uint64(i) | uint64(next)<<32), nil
}

// stop ends the ring's use until the next kick descriptor.
func (r *Ring) stop() {
	if r.kick != nil {
		r.kick.close()
		r.kick = nil
	}
	if r.call >= 0 {
		_ = unix.Close(r.call)
		r.call = -1
	}
	r.unmap()
}

// halt stops all rings.
func (b *Backend) halt(err error) {
	b.drain()
	for _, r := range slices.Backward(b.model.Rings) {
		r.Lock()
		r.stop()
		r.Unlock()
	}
	b.settle()
	b.model.Halted(err)
}

func (b *Backend) drain() {
	if b.model.Drain != nil {
		b.model.Drain()
	}
}
