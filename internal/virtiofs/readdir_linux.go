package virtiofs

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// maxEntries is how many bytes of entries an answer has at most; the guest asks
// again.
const maxEntries = 32 << 10

var dirBuffers = sync.Pool{New: func() any { return new([hostfs.DirBuffer]byte) }}

// readdir: fh[8] offset[8] size[4] read_flags[4] lock_owner[8] flags[4] padding[4]
// -> entries
//
// An offset is the host's own: where the entry after this one begins.
func (r *request) readdir() error {
	fh, off, size, err := r.readdirIn()
	if err != nil {
		return err
	}
	h, err := r.s.handle(fh, r.node)
	if err != nil {
		return err
	}
	defer h.release()
	buf := dirBuffers.Get().(*[hostfs.DirBuffer]byte)
	defer dirBuffers.Put(buf)
	full := false
	err = h.file.Entries(int64(off), buf[:], func(ino uint64, next int64, typ uint8, name []byte) bool {
		full = !r.e.dirent(size, h.n.sh.inode(ino), uint64(next), typ, name)
		return !full
	})
	if err == nil && full && len(r.e.b) == outHeaderSize {
		return unix.EINVAL // not even one
	}
	return err
}

// readdirIn takes the members of a READDIR. The size is what the answer may
// have.
func (r *request) readdirIn() (fh, off uint64, size int, err error) {
	fh, off, size = r.d.u64(), r.d.u64(), int(r.d.u32())
	_, _, _, _ = r.d.u32(), r.d.u64(), r.d.u32(), r.d.u32()
	if err := r.bad(); err != nil {
		return 0, 0, 0, err
	}
	if size > r.c.Out.Len()-outHeaderSize {
		return 0, 0, 0, unix.EINVAL
	}
	return fh, off, min(size, maxEntries), nil
}

// dirent: ino[8] off[8] namelen[4] type[4] name, and zeros up to a multiple of 8.
// It is false, and there is none, if the answer had more than size bytes of
// entries.
func (e *encoder) dirent(size int, ino, next uint64, typ uint8, name []byte) bool {
	pad := -len(name) & 7
	if len(e.b)-outHeaderSize+direntSize+len(name)+pad > size {
		return false
	}
	e.u64(ino)
	e.u64(next)
	e.u32(uint32(len(name)))
	e.u32(uint32(typ))
	e.b = append(e.b, name...)
	e.zero(pad)
	return true
}
