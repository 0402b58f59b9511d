package p9

import (
	"bytes"
	"encoding/binary"
	"math"

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

func (f *fid) readAt(b []byte, off int64) (n int, err error) {
	switch {
	case f.xattr != nil:
		return f.xattr.read(b, off)
	case f.file == nil:
		return 0, unix.EBADF
	}
	for n < len(b) {
		var m int
		err := again(func() (err error) { m, err = unix.Pread(f.file.fd, b[n:], off+int64(n)); return err })
		if m <= 0 || err != nil {
			if n > 0 || err == nil {
				break
			}
			return 0, err
		}
		n += m
	}
	return n, nil
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
	}
	if b, err = f.belowLimit(b, off); err != nil {
		return 0, err
	}
	if len(b) > 0 && f.file.privileged.Load() {
		if err := f.dropPrivilege(); err != nil {
			return 0, err
		}
	}
	for n < len(b) {
		var m int
		err := again(func() (err error) { m, err = unix.Pwrite(f.file.fd, b[n:], off+int64(n)); return err })
		if m <= 0 || err != nil {
			if n > 0 || err == nil {
				break
			}
			return 0, err
		}
		n += m
	}
	return n, nil
}

// belowLimit returns as much of b as can be written without the signal by
// which the kernel ends a process that writes too long a file.
func (f *fid) belowLimit(b []byte, off int64) ([]byte, error) {
	limit := f.node.s.fsize
	if limit == math.MaxInt64 || len(b) == 0 {
		return b, nil
	}
	if f.file.append {
		var st unix.Stat_t
		if err := unix.Fstat(f.file.fd, &st); err != nil {
			return nil, err
		}
		off = st.Size
	}
	if off >= limit {
		return nil, unix.EFBIG
	}
	return b[:min(int64(len(b)), limit-off)], nil
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
	sync := unix.Fsync
	if dataOnly != 0 {
		sync = unix.Fdatasync
	}
	return again(func() error { return sync(f.file.fd) })
}

const (
	// direntRead is how much of a folder is read at a time. An entry is 24
	// bytes and its name on the wire, and no less than 24 bytes here.
	direntRead   = 24 << 10
	direntHeader = 19 // ino[8] off[8] reclen[2] type[1], then the name and a NUL
)

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
	count = min(count, r.c.msize.Load()-readHeader, int64(smallBuffer-direntRead-readHeader))
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	if f.file == nil {
		return unix.EBADF
	}
	if !f.node.isDir() {
		return unix.ENOTDIR
	}
	from, out := r.data.b[:direntRead], r.data.b[direntRead:]
	r.e.begin(out, tReaddir+1, r.tag)
	r.e.u32(0)
	if err := f.entries(&r.e, from, int64(off), int(count)); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(r.e.b[headerSize:], uint32(len(r.e.b)-readHeader))
	return nil
}

// entries appends those that begin at off, count bytes at most, and at least
// one if there is any.
func (f *fid) entries(e *encoder, buf []byte, off int64, count int) error {
	d := f.file
	d.dirMu.Lock()
	defer d.dirMu.Unlock()
	if off != d.pos {
		if _, err := unix.Seek(d.fd, off, 0); err != nil {
			return err
		}
		d.pos = off
	}
	end := len(e.b) + count
	for {
		var n int
		if err := again(func() (err error) { n, err = unix.Getdents(d.fd, buf); return err }); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		before := len(e.b)
		for b := buf[:n]; len(b) > 0; {
			size := int(binary.NativeEndian.Uint16(b[16:]))
			ino, next, typ := binary.NativeEndian.Uint64(b), int64(binary.NativeEndian.Uint64(b[8:])), b[18]
			name := b[direntHeader:size]
			name = name[:bytes.IndexByte(name, 0)]
			b = b[size:]
			if f.hides(name) {
				d.pos = next
				continue
			}
			if len(e.b)+24+len(name) > end {
				if len(e.b) == readHeader {
					return unix.EINVAL
				}
				// The descriptor is ahead of what was taken.
				_, err := unix.Seek(d.fd, d.pos, 0)
				return err
			}
			f.entry(e, ino, next, typ, name)
			d.pos = next
		}
		if len(e.b) > before {
			return nil
		}
	}
}

func (f *fid) hides(name []byte) bool {
	if f.sh.allowed == nil || string(name) == "." || string(name) == ".." {
		return false
	}
	return !f.sh.sees(f.node, string(name))
}

func (f *fid) entry(e *encoder, ino uint64, next int64, typ uint8, name []byte) {
	if string(name) == ".." && f.sh.isRoot(f.node) {
		ino = f.node.ino // what is above is not the client's business
	}
	q := qid{typ: qidFile, path: f.sh.inode(f.node.dev, ino)}
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
