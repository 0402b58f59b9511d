//go:build linux

package vhostuser

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// maxRegions is what GET_MAX_MEM_SLOTS answers. Each persistent-memory device is
// a region; QEMU itself stops at 512.
const maxRegions = 509

// maxFile bounds file offsets, with room to round them up.
const maxFile = 1 << 48

// A region is a piece of guest memory as vhost-user describes it (Memory region
// description): guest address, size and QEMU's own address of it.
type region struct {
	gpa, size, uva uint64
	offset         uint64 // of the region in its file
	writable       bool   // QEMU's descriptor is; else mapped read-only
	mem            []byte // the region, size bytes
	raw            []byte // the mapping that mem lies in
}

// A memory is the guest's memory: regions sorted by gpa that do not overlap in
// either address space. It never changes; its regions may be unmapped only
// after every ring has another memory.
type memory struct {
	regions []*region
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
	n := &memory{append(slices.Clone(m.regions), r)}
	slices.SortFunc(n.regions, func(a, b *region) int { return cmp.Compare(a.gpa, b.gpa) })
	return n, nil
}

// without returns m less the region that has r's addresses.
func (m *memory) without(r *region) (*memory, error) {
	i := slices.IndexFunc(m.regions, func(o *region) bool {
		return o.gpa == r.gpa && o.size == r.size && o.uva == r.uva
	})
	if i < 0 {
		return nil, fmt.Errorf("no memory region at %#x of size %#x", r.gpa, r.size)
	}
	return &memory{slices.Delete(slices.Clone(m.regions), i, i+1)}, nil
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

func (r *region) has(gpa uint64) bool { return gpa-r.gpa < r.size && gpa >= r.gpa }

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

// check refuses a region whose ends cannot be computed with.
func (r *region) check() error {
	if r.size == 0 || r.gpa+r.size < r.gpa || r.uva+r.size < r.uva || r.offset+r.size < r.offset || r.offset+r.size > maxFile {
		return fmt.Errorf("memory region %#x+%#x at %#x, file offset %#x: out of range", r.gpa, r.size, r.uva, r.offset)
	}
	return nil
}

// open maps the region that fd backs. It does not keep fd.
//
// A descriptor that QEMU opened read-only (persistent memory) is mapped
// read-only, and so can never be what a guest has the device write to.
func (r *region) open(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("memory region %#x: %w", r.gpa, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || uint64(st.Size) < r.offset+r.size {
		return fmt.Errorf("memory region %#x+%#x: its file is too short or no file", r.gpa, r.size)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return fmt.Errorf("memory region %#x: %w", r.gpa, err)
	}
	prot := unix.PROT_READ
	if r.writable = flags&unix.O_ACCMODE == unix.O_RDWR; r.writable {
		prot |= unix.PROT_WRITE
	}
	// Offset and length in whole pages; huge pages show as the block size.
	page := uint64(os.Getpagesize())
	if b := uint64(st.Blksize); b > page && b&(b-1) == 0 && b <= maxFile {
		page = b
	}
	skip := r.offset & (page - 1)
	length := (skip + r.size + page - 1) &^ (page - 1)
	raw, err := unix.Mmap(fd, int64(r.offset-skip), int(length), prot, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("mapping memory region %#x+%#x: %w", r.gpa, r.size, err)
	}
	r.raw, r.mem = raw, raw[skip:skip+r.size:skip+r.size]
	return nil
}

// close unmaps the region. Nobody may touch it any more.
func (r *region) close() error {
	raw := r.raw
	r.raw, r.mem = nil, nil
	if raw == nil {
		return nil
	}
	return unix.Munmap(raw)
}

// close unmaps the regions of m that are not in next.
func (m *memory) close(next *memory) error {
	var errs []error
	for _, r := range m.regions {
		if next == nil || !slices.Contains(next.regions, r) {
			errs = append(errs, r.close())
		}
	}
	return errors.Join(errs...)
}
