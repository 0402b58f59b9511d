package hostfs

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"
)

// A Change is what becomes of a file's attributes.
type Change struct {
	Set Attributes

	Mode     uint32
	UID, GID uint32 // NoID leaves it as it is
	Size     uint64

	ATime, MTime unix.Timespec // UTIME_NOW in Nsec is the present
}

// Attributes are bits for the members of a [Change] that count.
type Attributes uint32

const (
	SetMode Attributes = 1 << iota
	SetUID
	SetGID
	SetSize
	SetATime
	SetMTime

	// SetUnprivileged takes set-user-id and set-group-id away as
	// [File.DropPrivilege] does, before Mode is set.
	SetUnprivileged
)

// SetAttr changes attributes: first the owner, whose change takes set-user-id
// and set-group-id away as chown(2) does, then the mode, the size, the times.
// The first error ends it. A file of the node that is open for writing, if
// there is one, is what is made longer or shorter, as the node's mode can
// forbid that by now.
func (n *Node) SetAttr(f *File, c Change) error {
	if err := n.tree.Writable(); err != nil {
		return err
	}
	fd, err := n.use()
	if err != nil {
		return err
	}
	defer n.done()
	if c.Set&(SetUID|SetGID) != 0 {
		// -1, "as it is", is what NoID becomes.
		uid, gid := -1, -1
		if c.Set&SetUID != 0 {
			uid = int(int32(c.UID))
		}
		if c.Set&SetGID != 0 {
			gid = int(int32(c.GID))
		}
		if err := chown(fd, uid, gid); err != nil {
			return err
		}
	}
	if c.Set&SetUnprivileged != 0 {
		if err := dropPrivilege(fd); err != nil {
			return err
		}
	}
	if c.Set&SetMode != 0 {
		if n.kind == unix.S_IFLNK {
			return unix.EOPNOTSUPP
		}
		if err := chmod(fd, c.Mode&0o7777); err != nil {
			return err
		}
	}
	if c.Set&SetSize != 0 {
		if err := n.truncate(fd, f, c.Size); err != nil {
			return err
		}
	}
	if c.Set&(SetATime|SetMTime) != 0 {
		times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
		if c.Set&SetATime != 0 {
			times[0] = c.ATime
		}
		if c.Set&SetMTime != 0 {
			times[1] = c.MTime
		}
		return again(func() error { return unix.UtimesNanoAt(fd, "", times[:], unix.AT_EMPTY_PATH) })
	}
	return nil
}

// truncate makes the file size bytes long.
func (n *Node) truncate(fd int, f *File, size uint64) error {
	switch {
	case n.IsDir():
		return unix.EISDIR
	case n.kind != unix.S_IFREG:
		return unix.EINVAL
	case size > math.MaxInt64:
		return unix.EINVAL
	}
	if f != nil {
		err := again(func() error { return unix.Ftruncate(f.fd, int64(size)) })
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EBADF) { // not open for writing
			return err
		}
	}
	return again(func() error { return unix.Truncate(procPath(fd), int64(size)) })
}
