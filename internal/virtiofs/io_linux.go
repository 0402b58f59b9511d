package virtiofs

import (
	"math"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// read: fh[8] offset[8] size[4] read_flags[4] lock_owner[8] flags[4] padding[4]
// -> data
//
// The kernel puts the data where the guest wants it.
func (r *request) read() error {
	fh, off, size := r.d.u64(), r.d.u64(), r.d.u32()
	_, _, _, _ = r.d.u32(), r.d.u64(), r.d.u32(), r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	if off > math.MaxInt64 || size > maxData || int(size) > r.c.Out.Len()-outHeaderSize {
		return unix.EINVAL
	}
	r.head, r.cut = r.c.Out.Cut(outHeaderSize), true
	to := r.c.Out.Slice(int(size)) // waits while the VM is paused: with no file in use
	h, err := r.s.handle(fh, r.node)
	if err != nil {
		return err
	}
	defer h.release()
	if h.file.Node().IsDir() {
		return unix.EISDIR
	}
	n, err := h.file.ReadV(to, int64(off))
	if err != nil {
		return err
	}
	r.data = n
	return nil
}

// write: fh[8] offset[8] size[4] write_flags[4] lock_owner[8] flags[4] padding[4]
// data[size] -> size[4] padding[4]
func (r *request) write() error {
	fh, off, size, how := r.d.u64(), r.d.u64(), r.d.u32(), r.d.u32()
	_, flags, _ := r.d.u64(), r.d.u32(), r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	if off > math.MaxInt64 || size > maxData || int(size) != r.c.In.Len() {
		return unix.EINVAL
	}
	from := r.c.In.Slice(int(size)) // as READ does
	h, err := r.s.handle(fh, r.node)
	if err != nil {
		return err
	}
	defer h.release()
	var host hostfs.WriteFlags
	if how&writeKillSUIDGID != 0 {
		host |= hostfs.DropPrivilege
	}
	if flags&unix.O_APPEND != 0 && how&writeCache == 0 {
		host |= hostfs.AtEnd
	}
	n, err := h.file.WriteV(from, int64(off), host)
	if err != nil {
		return err
	}
	h.wrote.Store(true)
	r.e.u32(uint32(n))
	r.e.u32(0)
	return nil
}

// fsync: fh[8] fsync_flags[4] padding[4] -> nothing
func (r *request) fsync() error {
	fh, flags, _ := r.d.u64(), r.d.u32(), r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	h, err := r.s.handle(fh, r.node)
	if err != nil {
		return err
	}
	defer h.release()
	return h.file.Sync(flags&fsyncDataOnly != 0)
}
