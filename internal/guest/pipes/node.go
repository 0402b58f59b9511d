//go:build linux

package pipes

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/guest/storage"
)

// backlog is how many clients may wait to be accepted; the kernel may allow
// fewer.
const backlog = 4096

// A node is something in the file system that a pipe has made: a folder, a
// socket or a link.
type node struct {
	path   string
	folder bool
	ino    uint64
}

// remove removes the node, unless it is not there any more. A folder that
// somebody else uses stays.
func (n node) remove() error {
	dir, err := storage.OpenDir(path.Dir(n.path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	fd, name := int(dir.Fd()), path.Base(n.path)
	var st unix.Stat_t
	if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Ino != n.ino {
		return nil
	}
	if n.folder {
		_ = unix.Unlinkat(fd, name, unix.AT_REMOVEDIR)
		return nil
	}
	if err := unix.Unlinkat(fd, name, 0); err != nil {
		return &os.PathError{Op: "remove", Path: n.path, Err: err}
	}
	return nil
}

// note has remove remove a file in an open folder.
func (k *shared) note(dir *os.File, p string, folder bool) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), path.Base(p), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: p, Err: err}
	}
	k.made = append(k.made, node{p, folder, st.Ino})
	return nil
}

// folder makes the folder of p, with those above it, and opens it. It follows
// no link. The caller closes it.
func (k *shared) folder(p string) (*os.File, error) {
	var missing []string
	dir := path.Dir(p)
	for d := dir; d != "/"; d = path.Dir(d) {
		if _, err := os.Lstat(d); err == nil {
			break
		}
		missing = append(missing, d)
	}
	f, err := storage.MakeDir(dir, 0o755)
	slices.Reverse(missing)
	for _, d := range missing { // also of those made in vain
		if parent, err := storage.OpenDir(path.Dir(d)); err == nil {
			_ = k.note(parent, d, true) // it may not have been made
			parent.Close()
		}
	}
	return f, err
}

// listen makes the socket. Nobody can connect before it has its mode and
// owner.
func (k *shared) listen(p hcsschema.LCOWMappedPipe) (net.Listener, error) {
	dir, err := k.folder(p.MountPath)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), p.MountPath)
	defer f.Close()
	name := path.Base(p.MountPath)
	at := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + name
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: at}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := k.note(dir, p.MountPath, false); err != nil {
		return nil, err
	}
	if err := unix.Fchownat(int(dir.Fd()), name, int(p.UserID), int(p.GroupID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, os.NewSyscallError("chown", err)
	}
	if err := unix.Fchmodat(int(dir.Fd()), name, p.Mode, 0); err != nil {
		return nil, os.NewSyscallError("chmod", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	return net.FileListener(f) // a duplicate
}

// foreign are the folders in which the host makes no links.
var foreign = []string{"/proc", "/sys", storage.StateDir, "/run/gcs"}

// checkLink tells whether the host may have a link at p: an absolute and
// clean path of printable characters, outside of what is the kernel's or the
// agent's.
func checkLink(p string) error {
	switch {
	case len(p) > 1024 || p != path.Clean(p) || p[0] != '/' || p == "/" ||
		strings.ContainsFunc(p, func(r rune) bool { return !strconv.IsPrint(r) }):
		return fmt.Errorf("%w: %.80q for a pipe", storage.ErrPath, p)
	case slices.ContainsFunc(foreign, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") }):
		return fmt.Errorf("%w: a pipe cannot be at %s", storage.ErrPath, p)
	}
	return nil
}

// link makes a link to the socket at p. Links on the way to p are followed:
// /var/run is one to /run.
func (k *shared) link(p, to string) error {
	dir, rest := path.Dir(p), path.Base(p)
	for {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			p = path.Join(real, rest)
			break
		}
		if !errors.Is(err, os.ErrNotExist) || dir == "/" {
			return err
		}
		dir, rest = path.Dir(dir), path.Join(path.Base(dir), rest)
	}
	if err := checkLink(p); err != nil {
		return err
	}
	f, err := k.folder(p)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Symlinkat(to, int(f.Fd()), path.Base(p)); err != nil {
		return &os.PathError{Op: "symlink", Path: p, Err: err}
	}
	return k.note(f, p, false)
}
