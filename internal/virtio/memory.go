//go:build linux

package virtio

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// maxRegions is what GET_MAX_MEM_SLOTS answers. Each persistent-memory device is
// a region; QEMU itself stops at 512.
const maxRegions = 509

// A memory is the guest's memory: regions sorted by gpa that do not overlap in
// either address space. It never changes. Who uses it beyond the lock of a ring
// holds a reference; a region is unmapped when no memory has it any more.
type memory struct {
	regions []*region
	refs    atomic.Int32
}

// newMemory returns a memory with one reference.
func newMemory(regions []*region) *memory {
	m := &memory{regions: regions}
	m.refs.Store(1)
	for _, r := range regions {
		r.refs.Add(1)
	}
	return m
}

// hold adds a reference for a caller that has, or is protected by, another.
func (m *memory) hold() { m.refs.Add(1) }

// release drops a reference.
func (m *memory) release() error {
	if m.refs.Add(-1) > 0 {
		return nil
	}
	var errs []error
	for _, r := range m.regions {
		if r.refs.Add(-1) == 0 {
			errs = append(errs, r.close())
		}
	}
	return errors.Join(errs...)
}

// with returns m plus r, which it maps from fd; fd stays the caller's.
func (m *memory) with(r *region, fd int) (*memory, error) {
	if len(m.regions) >= maxRegions {
		return nil, fmt.Errorf("more than %d memory regions", maxRegions)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	for _, o := range m.regions {
		if r.gpa < o.gpa+o.size && o.gpa < r.gpa+r.size || r.uva < o.uva+o.size && o.uva < r.uva+r.size {
			return nil, fmt.Errorf("memory region %#x+%#x overlaps another", r.gpa, r.size)
		}
	}
	if err := r.open(fd); err != nil {
		return nil, err
	}
	all := append(slices.Clone(m.regions), r)
	slices.SortFunc(all, func(a, b *region) int { return cmp.Compare(a.gpa, b.gpa) })
	return newMemory(all), nil
}

// without returns m less the region that has r's addresses.
func (m *memory) without(r *region) (*memory, error) {
	i := slices.IndexFunc(m.regions, func(o *region) bool {
		return o.gpa == r.gpa && o.size == r.size && o.uva == r.uva
	})
	if i < 0 {
		return nil, fmt.Errorf("no memory region at %#x of size %#x", r.gpa, r.size)
	}
	return newMemory(slices.Delete(slices.Clone(m.regions), i, i+1)), nil
}

// at returns the region that holds guest address gpa, or nil.
func (m *memory) at(gpa uint64) *region {
	i, found := slices.BinarySearchFunc(m.regions, gpa, func(r *region, a uint64) int { return cmp.Compare(r.gpa, a) })
	if !found {
		i--
	}
	if i >= 0 && m.regions[i].has(gpa) {
		return m.regions[i]
	}
	return nil
}

// user returns the n bytes at QEMU's address uva, which must lie in one region.
func (m *memory) user(uva, n uint64, write bool) ([]byte, error) {
	for _, r := range m.regions {
		if uva < r.uva || uva-r.uva >= r.size {
			continue
		}
		o := uva - r.uva
		if n > r.size-o || write && !r.writable {
			break
		}
		return r.mem[o : o+n : o+n], nil
	}
	return nil, fmt.Errorf("no memory for %d bytes at user address %#x", n, uva)
}
