//go:build linux

package virtio

import (
	"errors"
	"fmt"
)

const regionLen = 32

// setMemTable replaces the guest's memory: number u32, padding u32, then a
// region description for each descriptor.
func (b *Backend) setMemTable(m *message) error {
	if len(m.payload) < 8 {
		return errors.New("malformed")
	}
	n := m.u32(0)
	if n == 0 || n > maxFDs || int(n) != len(m.fds) || len(m.payload) < 8+int(n)*regionLen {
		return fmt.Errorf("%d regions in %d bytes with %d descriptors", n, len(m.payload), len(m.fds))
	}
	mem := newMemory(nil)
	for i, fd := range m.fds {
		next, err := mem.with(m.region(8+i*regionLen), fd)
		if err = errors.Join(err, mem.release()); err != nil {
			return err
		}
		mem = next
	}
	return b.setMemory(mem)
}

// addMemReg adds a region: padding u64, region description.
func (b *Backend) addMemReg(m *message) error {
	if err := m.want(8+regionLen, 1); err != nil {
		return err
	}
	mem, err := b.mem.with(m.region(8), m.fds[0])
	if err != nil {
		return err
	}
	return b.setMemory(mem)
}

// remMemReg removes a region; some versions of QEMU send its descriptor along.
func (b *Backend) remMemReg(m *message) error {
	if len(m.payload) != 8+regionLen || len(m.fds) > 1 {
		return m.want(8+regionLen, 0)
	}
	mem, err := b.mem.without(m.region(8))
	if err != nil {
		return err
	}
	return b.setMemory(mem)
}

// setMemory gives the rings another memory and lets go of the old one. A ring
// whose tables are not in it rests: QEMU replaces a region by removing and
// adding it.
func (b *Backend) setMemory(mem *memory) error {
	b.lockRings()
	for _, r := range b.model.Rings {
		_ = r.remap(mem)
	}
	b.unlockRings()
	old := b.mem
	b.mem = mem
	b.settle()
	return old.release()
}
