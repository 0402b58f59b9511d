package hostfs

import "golang.org/x/sys/unix"

// Fallocate gives a part of the file room, or takes it away. Modes are zero,
// KEEP_SIZE, PUNCH_HOLE with KEEP_SIZE, and ZERO_RANGE with or without
// KEEP_SIZE. It leaves set-user-id: see [File.DropPrivilege].
func (f *File) Fallocate(mode uint32, off, length int64) error {
	switch mode &^ unix.FALLOC_FL_KEEP_SIZE {
	case 0, unix.FALLOC_FL_ZERO_RANGE:
	case unix.FALLOC_FL_PUNCH_HOLE:
		if mode&unix.FALLOC_FL_KEEP_SIZE == 0 {
			return unix.EOPNOTSUPP
		}
	default:
		return unix.EOPNOTSUPP
	}
	return again(func() error { return unix.Fallocate(f.fd, mode, off, length) })
}

// Seek returns where the next data or the next hole is, as whence is SEEK_DATA
// or SEEK_HOLE; ENXIO if there is none.
func (f *File) Seek(off int64, whence int) (int64, error) {
	if f.node.kind != unix.S_IFREG || whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, unix.EINVAL
	}
	return unix.Seek(f.fd, off, whence)
}

// maxCopy is how much is copied at a time.
const maxCopy = 64 << 20

// CopyRange copies n bytes at most within the host, and returns how many; fewer
// than the file has when that is much. It leaves set-user-id: see
// [File.DropPrivilege].
func (f *File) CopyRange(off int64, to *File, at int64, n uint64) (int, error) {
	if off < 0 || at < 0 {
		return 0, unix.EINVAL
	}
	return retry(func() (int, error) {
		from, dest := off, at
		return unix.CopyFileRange(f.fd, &from, to.fd, &dest, int(min(n, maxCopy)), 0)
	})
}
