package virtiofs

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"
)

// willChange is of a file that a request is about to change. It takes
// set-user-id away if that is a user's: for a WRITE the guest's kernel says that
// it should be done, for these requests it relies on it.
func (r *request) willChange(h *handle) error {
	if err := h.file.Writable(); err != nil {
		return err
	}
	h.wrote.Store(true)
	if r.uid == 0 {
		return nil
	}
	return h.file.DropPrivilege()
}

// fallocate: fh[8] offset[8] length[8] mode[4] padding[4] -> nothing
func (r *request) fallocate() error {
	fh, off, length, mode := r.d.u64(), r.d.u64(), r.d.u64(), r.d.u32()
	r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	if off > math.MaxInt64 || length > math.MaxInt64 {
		return unix.EINVAL
	}
	h, err := r.s.handle(fh, r.node)
	if err != nil {
		return err
	}
	defer h.release()
	if err := r.willChange(h); err != nil {
		return err
	}
	return h.file.Fallocate(mode, int64(off), int64(length))
}

// lseek: fh[8] offset[8] whence[4] padding[4] -> offset[8]
func (r *request) lseek() error {
	fh, off, whence := r.d.u64(), r.d.u64(), r.d.u32()
	r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	if off > math.MaxInt64 || whence > math.MaxInt32 {
		return unix.EINVAL
	}
	h, err := r.s.handle(fh, r.node)
	if err != nil {
		return err
	}
	defer h.release()
	at, err := h.file.Seek(int64(off), int(whence))
	if err != nil {
		return err
	}
	r.e.u64(uint64(at))
	return nil
}

// copyFileRange: fh_in[8] off_in[8] nodeid_out[8] fh_out[8] off_out[8] len[8]
// flags[8] -> size[4] padding[4]
func (r *request) copyFileRange() error {
	from, off := r.d.u64(), r.d.u64()
	node, to, at := r.d.u64(), r.d.u64(), r.d.u64()
	length, flags := r.d.u64(), r.d.u64()
	if err := r.bad(); err != nil {
		return err
	}
	if off > math.MaxInt64 || at > math.MaxInt64 || flags != 0 {
		return unix.EINVAL
	}
	in, err := r.s.handle(from, r.node)
	if err != nil {
		return err
	}
	defer in.release()
	out, err := r.s.handle(to, node)
	if err != nil {
		return err
	}
	defer out.release()
	if err := r.willChange(out); err != nil {
		return err
	}
	n, err := in.file.CopyRange(int64(off), out.file, int64(at), length)
	switch {
	case errors.Is(err, unix.ENOSYS): // would be for all files
		return unix.EOPNOTSUPP
	case err != nil:
		return err
	}
	r.e.u32(uint32(n))
	r.e.u32(0)
	return nil
}
