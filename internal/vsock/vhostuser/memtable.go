//go:build linux

package vhostuser

import (
	"errors"
	"fmt"
)

const regionLen = 32

// setMemTable replaces the guest's memory: number u32, padding u32, then a
// region description for each descriptor.
func (d *Device) setMemTable(m *message) error {
	if len(m.payload) < 8 {
		return errors.New("malformed")
	}
	n := m.u32(0)
	if n == 0 || n > maxFDs || int(n) != len(m.fds) || len(m.payload) < 8+int(n)*regionLen {
		return fmt.Errorf("%d regions in %d bytes with %d descriptors", n, len(m.payload), len(m.fds))
	}
	mem := &memory{}
	for i, fd := range m.fds {
		next, err := mem.with(m.region(8+i*regionLen), fd)
		if err != nil {
			return errors.Join(err, mem.close(nil))
		}
		mem = next
	}
	return d.setMemory(mem)
}

// addMemReg adds a region: padding u64, region description.
func (d *Device) addMemReg(m *message) error {
	if err := m.want(8+regionLen, 1); err != nil {
		return err
	}
	mem, err := d.mem.with(m.region(8), m.fds[0])
	if err != nil {
		return err
	}
	return d.setMemory(mem)
}

// remMemReg removes a region; some versions of QEMU send its descriptor along.
func (d *Device) remMemReg(m *message) error {
	if len(m.payload) != 8+regionLen || len(m.fds) > 1 {
		return m.want(8+regionLen, 0)
	}
	mem, err := d.mem.without(m.region(8))
	if err != nil {
		return err
	}
	return d.setMemory(mem)
}

// setMemory gives the rings another memory and unmaps what it lacks. A ring
// whose tables are not in it rests: QEMU replaces a region by removing and
// adding it.
func (d *Device) setMemory(mem *memory) error {
	d.tx.mu.Lock()
	d.rx.mu.Lock()
	_ = d.tx.remap(mem)
	_ = d.rx.remap(mem)
	d.rx.mu.Unlock()
	d.tx.mu.Unlock()
	old := d.mem
	d.mem = mem
	d.settle()
	return old.close(mem)
}
