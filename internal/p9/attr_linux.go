package p9

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"
)

// getattr: fid[4] mask[8] -> valid[8] qid[13] mode[4] uid[4] gid[4] nlink[8]
// rdev[8] size[8] blksize[8] blocks[8] atime[8+8] mtime[8+8] ctime[8+8]
// btime[8+8] gen[8] data_version[8]
func (r *request) getattr() error {
	id, _ := r.d.u32(), r.d.u64()
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	st, q, err := f.node.stat(f.sh)
	if err != nil {
		return err
	}
	e := &r.e
	e.u64(statsBasic)
	e.qid(q)
	e.u32(st.Mode)
	e.u32(st.Uid)
	e.u32(st.Gid)
	for _, v := range []uint64{
		uint64(st.Nlink), //nolint:unconvert // 32 bits on arm64
		st.Rdev, uint64(st.Size), uint64(st.Blksize), uint64(st.Blocks),
		uint64(st.Atim.Sec), uint64(st.Atim.Nsec), uint64(st.Mtim.Sec), uint64(st.Mtim.Nsec),
		uint64(st.Ctim.Sec), uint64(st.Ctim.Nsec), 0, 0, 0, 0,
	} {
		e.u64(v)
	}
	return nil
}

// setattr: fid[4] valid[4] mode[4] uid[4] gid[4] size[8] atime[8+8]
// mtime[8+8] -> nothing
func (r *request) setattr() error {
	id, valid := r.d.u32(), r.d.u32()
	mode, uid, gid := r.d.u32(), r.d.u32(), r.d.u32()
	size := r.d.u64()
	times := [2]unix.Timespec{wireTime(&r.d), wireTime(&r.d)}
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	if err := f.sh.writable(); err != nil {
		return err
	}
	if valid&(setUID|setGID) != 0 {
		if valid&setUID == 0 {
			uid = noUID
		}
		if valid&setGID == 0 {
			gid = noUID
		}
		// -1, "as it is", is what noUID becomes.
		if err := unix.Fchownat(f.node.fd, "", int(int32(uid)), int(int32(gid)), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	// After the owner, whose change takes set-user-id away.
	if valid&setMode != 0 {
		if f.node.kind == unix.S_IFLNK {
			return unix.EOPNOTSUPP
		}
		if err := unix.Chmod(f.node.proc(), mode&0o7777); err != nil {
			return err
		}
	}
	if valid&setSize != 0 {
		if err := f.truncate(size); err != nil {
			return err
		}
	}
	if valid&(setATime|setMTime) != 0 {
		times[0] = chosenTime(times[0], valid&setATime != 0, valid&setATimeValue != 0)
		times[1] = chosenTime(times[1], valid&setMTime != 0, valid&setMTimeValue != 0)
		return unix.UtimesNanoAt(f.node.fd, "", times[:], unix.AT_EMPTY_PATH)
	}
	return nil
}

func wireTime(d *decoder) unix.Timespec {
	sec, nsec := d.u64(), d.u64()
	return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec % 1e9)}
}

// chosenTime returns what utimensat takes for a time that is set or not, to a
// value or the present.
func chosenTime(t unix.Timespec, set, value bool) unix.Timespec {
	switch {
	case !set:
		t.Nsec = unix.UTIME_OMIT
	case !value:
		t.Nsec = unix.UTIME_NOW
	}
	return t
}

// truncate makes the file size bytes long, by its own descriptor if it is open
// for writing: its mode can have changed since.
func (f *fid) truncate(size uint64) error {
	switch {
	case f.node.isDir():
		return unix.EISDIR
	case f.node.kind != unix.S_IFREG:
		return unix.EINVAL
	case size > math.MaxInt64:
		return unix.EINVAL
	case int64(size) > f.node.s.fsize:
		return unix.EFBIG
	}
	if f.file != nil {
		err := again(func() error { return unix.Ftruncate(f.file.fd, int64(size)) })
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EBADF) { // not open for writing
			return err
		}
	}
	return again(func() error { return unix.Truncate(f.node.proc(), int64(size)) })
}

// statfs: fid[4] -> type[4] bsize[4] blocks[8] bfree[8] bavail[8] files[8]
// ffree[8] fsid[8] namelen[4]
func (r *request) statfs() error {
	id := r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	var st unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(f.node.fd, &st) }); err != nil {
		return err
	}
	e := &r.e
	e.u32(fsMagic) // not the host's, whose abilities such as inotify the client lacks
	e.u32(uint32(st.Bsize))
	for _, v := range []uint64{
		st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree,
		uint64(uint32(st.Fsid.Val[0])) | uint64(uint32(st.Fsid.Val[1]))<<32,
	} {
		e.u64(v)
	}
	e.u32(maxName)
	return nil
}
