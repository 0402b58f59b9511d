package p9

import (
	"github.com/byrevm/byre/internal/hostfs"
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
	st, err := f.node.Stat()
	if err != nil {
		return err
	}
	e := &r.e
	e.u64(statsBasic)
	e.qid(qidOf(f.sh, &st))
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
	change := hostfs.Change{
		Mode: r.d.u32(), UID: r.d.u32(), GID: r.d.u32(), Size: r.d.u64(),
		ATime: wireTime(&r.d, valid&setATimeValue != 0),
		MTime: wireTime(&r.d, valid&setMTimeValue != 0),
	}
	if err := r.bad(); err != nil {
		return err
	}
	for _, m := range []struct {
		wire uint32
		host hostfs.Attributes
	}{
		{setMode, hostfs.SetMode}, {setUID, hostfs.SetUID}, {setGID, hostfs.SetGID},
		{setSize, hostfs.SetSize}, {setATime, hostfs.SetATime}, {setMTime, hostfs.SetMTime},
	} {
		if valid&m.wire != 0 {
			change.Set |= m.host
		}
	}
	f, release, err := r.c.use(id)
	if err != nil {
		return err
	}
	defer release()
	return f.node.SetAttr(f.file.host(), change)
}

// wireTime takes a time, which may stand for the present.
func wireTime(d *decoder, value bool) unix.Timespec {
	sec, nsec := d.u64(), d.u64()
	if !value {
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec % 1e9)}
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
	st, err := f.node.Statfs()
	if err != nil {
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
	e.u32(hostfs.MaxName)
	return nil
}
