package p9

import (
	"errors"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A node is a file of the host: a descriptor that stands for the file, not for
// its name. Fids that are copies of each other share it.
type node struct {
	s    *Server
	fd   int
	kind uint32 // S_IFMT bits of the mode, which never change
	dev  uint64
	ino  uint64
	refs atomic.Int32
}

// newNode takes over fd, also when it fails.
func newNode(s *Server, fd int) (*node, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		s.closeFile(fd)
		return nil, err
	}
	n := &node{s: s, fd: fd, kind: st.Mode & unix.S_IFMT, dev: st.Dev, ino: st.Ino}
	n.refs.Store(1)
	return n, nil
}

func (n *node) ref() *node {
	n.refs.Add(1)
	return n
}

func (n *node) unref() {
	if n.refs.Add(-1) == 0 {
		n.s.closeFile(n.fd)
	}
}

func (n *node) isDir() bool { return n.kind == unix.S_IFDIR }

// proc returns a path that leads to the file itself, for system calls that
// take no descriptor of a file that is not open. It is one hop through a table
// of this process; no name in a share is resolved.
func (n *node) proc() string { return procFolder + strconv.Itoa(n.fd) }

const procFolder = "/proc/self/fd/"

// checkProc makes sure that [node.proc] is what it says.
func checkProc() error {
	var st unix.Statfs_t
	if err := unix.Statfs(procFolder, &st); err != nil {
		return err
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		return errors.New("/proc is not mounted")
	}
	return nil
}

// lookup opens the file name of the folder n, without following it.
func (n *node) lookup(name string) (*node, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if !n.isDir() {
		return nil, unix.ENOTDIR
	}
	fd, err := n.s.openFile(func() (int, error) {
		return unix.Openat2(n.fd, name, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: resolve,
		})
	})
	if err != nil {
		return nil, err
	}
	return newNode(n.s, fd)
}

// resolve keeps a look-up in the folder that it begins in.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS

// checkName refuses what is not the name of one file in a folder.
func checkName(name string) error {
	switch {
	case name == "", name == ".", name == "..":
		return unix.EINVAL
	case len(name) > maxName:
		return unix.ENAMETOOLONG
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return unix.EINVAL
		}
	}
	return nil
}

// open opens the file for reading or writing.
func (n *node) open(flags int) (int, error) {
	switch n.kind {
	case unix.S_IFREG, unix.S_IFDIR:
	case unix.S_IFLNK:
		return -1, unix.ELOOP
	default:
		return -1, unix.EPERM
	}
	return n.s.openFile(func() (int, error) {
		fd, err := unix.Open(n.proc(), flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if errors.Is(err, unix.EPERM) && flags&unix.O_NOATIME != 0 { // only the owner may
			fd, err = unix.Open(n.proc(), flags&^unix.O_NOATIME|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		}
		return fd, err
	})
}

// stat returns the attributes and the qid of the file.
func (n *node) stat(sh *share) (st unix.Stat_t, q qid, err error) {
	if err = unix.Fstat(n.fd, &st); err != nil {
		return st, q, err
	}
	q = qid{typ: qidType(st.Mode), path: sh.inode(st.Dev, st.Ino)}
	q.version = uint32(st.Mtim.Sec) ^ uint32(st.Mtim.Nsec) ^ uint32(st.Size)<<8
	return st, q, nil
}

func qidType(mode uint32) uint8 {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return qidDir
	case unix.S_IFLNK:
		return qidSymlink
	}
	return qidFile
}

// openFile counts the descriptor that open returns.
func (s *Server) openFile(open func() (int, error)) (int, error) {
	if s.files.Add(1) > int64(s.config.MaxFiles) {
		s.files.Add(-1)
		return -1, unix.ENFILE
	}
	for {
		fd, err := open()
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			s.files.Add(-1)
			return -1, err
		}
		return fd, nil
	}
}

// closeFile closes a descriptor that nothing was written to.
func (s *Server) closeFile(fd int) { _ = s.closeWritten(fd) }

// closeWritten closes a descriptor. The file system can have news of what was
// written.
func (s *Server) closeWritten(fd int) error {
	s.files.Add(-1)
	return unix.Close(fd)
}

// errno returns the number that an error has on the wire.
func errno(err error) uint32 {
	var e syscall.Errno
	if errors.As(err, &e) && e != 0 {
		return uint32(e)
	}
	return uint32(unix.EIO)
}

// again calls do until no signal interrupts it.
func again(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
