//go:build linux

package virtio

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

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

	refs atomic.Int32 // memories that have it
}

func (r *region) has(gpa uint64) bool { return gpa-r.gpa < r.size && gpa >= r.gpa }

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
