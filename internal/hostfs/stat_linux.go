package hostfs

import "golang.org/x/sys/unix"

// identify returns which file a descriptor is of, and its attributes, by one
// system call.
func identify(fd int) (ID, unix.Stat_t, error) { return identifyAt(fd, "", unix.AT_EMPTY_PATH) }

// identifyAt is identify of the file name in a folder.
func identifyAt(folder int, name string, flags int) (id ID, st unix.Stat_t, err error) {
	var x unix.Statx_t
	err = again(func() error {
		return unix.Statx(folder, name, flags|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x)
	})
	if err != nil {
		return id, st, err
	}
	st.Dev, st.Ino = unix.Mkdev(x.Dev_major, x.Dev_minor), x.Ino
	st.Rdev = unix.Mkdev(x.Rdev_major, x.Rdev_minor)
	st.Mode, st.Uid, st.Gid = uint32(x.Mode), x.Uid, x.Gid
	assign(&st.Nlink, x.Nlink)
	assign(&st.Blksize, x.Blksize)
	st.Size, st.Blocks = int64(x.Size), int64(x.Blocks)
	for _, t := range []struct {
		to   *unix.Timespec
		from unix.StatxTimestamp
	}{{&st.Atim, x.Atime}, {&st.Mtim, x.Mtime}, {&st.Ctim, x.Ctime}} {
		*t.to = unix.Timespec{Sec: t.from.Sec, Nsec: int64(t.from.Nsec)}
	}
	id = ID{Dev: st.Dev, Ino: st.Ino, Kind: st.Mode & unix.S_IFMT}
	if x.Mask&unix.STATX_BTIME != 0 {
		id.Btime = x.Btime.Sec*1e9 + int64(x.Btime.Nsec)
	}
	return id, st, nil
}

type integer interface {
	~uint32 | ~uint64 | ~int32 | ~int64
}

// assign is for members whose size is the architecture's.
func assign[T, U integer](to *T, from U) { *to = T(from) }

func fstat(fd int) (st unix.Stat_t, err error) {
	err = again(func() error { return unix.Fstat(fd, &st) })
	return st, err
}

// chown and chmod are for descriptors of files that need not be open.
func chown(fd, uid, gid int) error {
	return again(func() error { return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH) })
}

func chmod(fd int, mode uint32) error {
	return again(func() error { return unix.Chmod(procPath(fd), mode) })
}
