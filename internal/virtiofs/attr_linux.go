package virtiofs

import (
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/hostfs"
)

// valid is how long the guest may believe attributes and names without asking,
// in nanoseconds.
const valid = 1e6

// attr: ino[8] size[8] blocks[8] atime[8] mtime[8] ctime[8] atimensec[4]
// mtimensec[4] ctimensec[4] mode[4] nlink[4] uid[4] gid[4] rdev[4] blksize[4]
// flags[4]
func (e *encoder) attr(ino uint64, st *unix.Stat_t) {
	for _, v := range [...]uint64{
		ino, uint64(st.Size), uint64(st.Blocks),
		uint64(st.Atim.Sec), uint64(st.Mtim.Sec), uint64(st.Ctim.Sec),
	} {
		e.u64(v)
	}
	for _, v := range [...]uint32{
		uint32(st.Atim.Nsec), uint32(st.Mtim.Nsec), uint32(st.Ctim.Nsec),
		st.Mode, uint32(st.Nlink), st.Uid, st.Gid, device(st.Rdev), uint32(st.Blksize), 0,
	} {
		e.u32(v)
	}
}

// device returns the number of a device as the guest's kernel packs it.
func device(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// attrOut: attr_valid[8] attr_valid_nsec[4] dummy[4] attr
func (e *encoder) attrOut(n *node, st *unix.Stat_t) {
	e.u64(0)
	e.u32(valid)
	e.u32(0)
	e.nodeAttr(n, st)
}

func (e *encoder) nodeAttr(n *node, st *unix.Stat_t) {
	e.attr(n.sh.inode(n.file.Ino()), st)
}

// entryOut: nodeid[8] generation[8] entry_valid[8] attr_valid[8]
// entry_valid_nsec[4] attr_valid_nsec[4] attr
func (e *encoder) entryOut(n *node, st *unix.Stat_t, entryValid uint32) {
	e.u64(n.id)
	e.zero(24) // no number is used twice, so that there is one generation
	e.u32(entryValid)
	e.u32(valid)
	e.nodeAttr(n, st)
}

// getattr: getattr_flags[4] dummy[4] fh[8] -> attrOut
func (r *request) getattr() error {
	flags, _, fh := r.d.u32(), r.d.u32(), r.d.u64()
	if err := r.bad(); err != nil {
		return err
	}
	u, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer u.release()
	if flags&getattrHandle != 0 {
		h, err := r.s.handle(fh, r.node)
		if err != nil {
			return err
		}
		h.release()
	}
	st, err := u.file.Stat()
	if err != nil {
		return err
	}
	r.e.attrOut(u.n, &st)
	return nil
}

// setattr: valid[4] padding[4] fh[8] size[8] lock_owner[8] atime[8] mtime[8]
// ctime[8] atimensec[4] mtimensec[4] ctimensec[4] mode[4] unused[4] uid[4] gid[4]
// unused[4] -> attrOut
func (r *request) setattr() error {
	set, _, fh, size, _ := r.d.u32(), r.d.u32(), r.d.u64(), r.d.u64(), r.d.u64()
	asec, msec, _ := r.d.u64(), r.d.u64(), r.d.u64()
	ansec, mnsec, _ := r.d.u32(), r.d.u32(), r.d.u32()
	c := hostfs.Change{Mode: r.d.u32(), Size: size}
	r.d.u32()
	c.UID, c.GID = r.d.u32(), r.d.u32()
	r.d.u32()
	if err := r.bad(); err != nil {
		return err
	}
	for _, m := range [...]struct {
		wire uint32
		host hostfs.Attributes
	}{
		{attrMode, hostfs.SetMode}, {attrUID, hostfs.SetUID}, {attrGID, hostfs.SetGID}, {attrSize, hostfs.SetSize},
		{attrATime, hostfs.SetATime}, {attrMTime, hostfs.SetMTime}, {attrKillSUIDGID, hostfs.SetUnprivileged},
	} {
		if set&m.wire != 0 {
			c.Set |= m.host
		}
	}
	c.ATime = chosenTime(asec, ansec, set&attrATimeNow != 0)
	c.MTime = chosenTime(msec, mnsec, set&attrMTimeNow != 0)
	u, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer u.release()
	var f *hostfs.File
	if set&attrHandle != 0 {
		h, err := r.s.handle(fh, r.node)
		if err != nil {
			return err
		}
		defer h.release()
		f = h.file
	}
	if err := u.file.SetAttr(f, c); err != nil {
		return err
	}
	st, err := u.file.Stat()
	if err != nil {
		return err
	}
	r.e.attrOut(u.n, &st)
	return nil
}

func chosenTime(sec uint64, nsec uint32, now bool) unix.Timespec {
	if now {
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec % 1e9)}
}

// statfs: nothing -> blocks[8] bfree[8] bavail[8] files[8] ffree[8] bsize[4]
// namelen[4] frsize[4] padding[4] spare[24]
func (r *request) statfs() error {
	if err := r.bad(); err != nil {
		return err
	}
	u, err := r.s.use(r.node)
	if err != nil {
		return err
	}
	defer u.release()
	st, err := u.file.Statfs()
	if err != nil {
		return err
	}
	r.e.statfs(&st)
	return nil
}

func (e *encoder) statfs(st *unix.Statfs_t) {
	for _, v := range [...]uint64{st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree} {
		e.u64(v)
	}
	e.u32(uint32(st.Bsize))
	e.u32(maxName)
	e.u32(uint32(st.Frsize))
	e.zero(4 + 24)
}
