package p9

import (
	"encoding/binary"
	"math"

	"github.com/byrevm/byre/internal/hostfs"
	"golang.org/x/sys/unix"
)

// read: fid[4] offset[8] count[4] -> count[4] data[count]
//
// The kernel puts the data where it is sent from.
func (r *request) read() error {
	id, off, count := r.d.u32(), r.d.u64(), int64(r.d.u32())
	if err := r.bad(); err != nil {
		return err
	}
	if off > math.MaxInt64 {
		return unix.EINVAL
	}
	count = min(count, r.c.msize.Load()-readHeader)
	b := r.out[:]
	if int(count) > len(b)-readHeader {
		if err := r.data.get(r.c, int(count)+readHeader, func() {}); err != nil {
			return err
		}
		b = r.data.b
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	n, err := f.readAt(b[readHeader:readHeader+count], int64(off))
	release() // what is left waits for the client
	if err != nil {
		return err
	}
	r.e.begin(b, tRead+1, r.tag)
	r.e.u32(uint32(n))
	r.e.b = r.e.b[:readHeader+n]
	return nil
}

func (f *fid) readAt(b []byte, off int64) (int, error) {
	switch {
	case f.xattr != nil:
		return f.xattr.read(b, off)
	case f.file == nil:
		return 0, unix.EBADF
	}
	return f.file.ReadAt(b, off)
}

// write: fid[4] offset[8] count[4] data[count] -> count[4]
func (r *request) write() error {
	id, off, count := r.d.u32(), r.d.u64(), r.d.u32()
	data := r.d.bytes(int(count))
	if err := r.bad(); err != nil {
		return err
	}
	if off > math.MaxInt64 {
		return unix.EINVAL
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	n, err := f.writeAt(data, int64(off))
	release()
	if err != nil {
		return err
	}
	r.e.u32(uint32(n))
	return nil
}

func (f *fid) writeAt(b []byte, off int64) (n int, err error) {
	switch {
	case f.xattr != nil:
		return f.xattr.write(b, off)
	case f.file == nil:
		return 0, unix.EBADF
	case !f.file.privileged.Load():
		return f.file.WriteAt(b, off, 0)
	}
	if n, err = f.file.WriteAt(b, off, hostfs.DropPrivilege); n > 0 {
		f.file.privileged.Store(false)
	}
	return n, err
}

// fsync: fid[4] datasync[4] -> nothing
func (r *request) fsync() error {
	id, dataOnly := r.d.u32(), r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	if f.file == nil {
		return unix.EBADF
	}
	return f.file.Sync(dataOnly != 0)
}

// readdir: fid[4] offset[8] count[4] -> count[4] data[count]
//
// data is entries of qid[13] offset[8] type[1] name[s]. An offset is the
// host's own: where the entry after this one begins.
func (r *request) readdir() error {
	id, off, count := r.d.u32(), r.d.u64(), int64(r.d.u32())
	if err := r.bad(); err != nil {
		return err
	}
	if err := r.data.get(r.c, smallBuffer, func() {}); err != nil {
		return err
	}
	count = min(count, r.c.msize.Load()-readHeader, int64(smallBuffer-hostfs.DirBuffer-readHeader))
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	if f.file == nil {
		return unix.EBADF
	}
	from, out := r.data.b[:hostfs.DirBuffer], r.data.b[hostfs.DirBuffer:]
	r.e.begin(out, tReaddir+1, r.tag)
	r.e.u32(0)
	full, end := false, readHeader+int(count)
	err = f.file.Entries(int64(off), from, func(ino uint64, next int64, typ uint8, name []byte) bool {
		if full = len(r.e.b)+direntHeader+len(name) > end; !full {
			r.e.entry(ino, next, typ, name)
		}
		return !full
	})
	if err == nil && full && len(r.e.b) == readHeader {
		err = unix.EINVAL
	}
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(r.e.b[headerSize:], uint32(len(r.e.b)-readHeader))
	return nil
}

// direntHeader is how long an entry is without its name, which the host's is at
// least.
const direntHeader = 13 + 8 + 1 + 2

func (e *encoder) entry(ino uint64, next int64, typ uint8, name []byte) {
	q := qid{typ: qidFile, path: ino}
	switch typ {
	case unix.DT_DIR:
		q.typ = qidDir
	case unix.DT_LNK:
		q.typ = qidSymlink
	}
	e.qid(q)
	e.u64(uint64(next))
	e.u8(typ)
	e.u16(uint16(len(name)))
	e.b = append(e.b, name...)
}
