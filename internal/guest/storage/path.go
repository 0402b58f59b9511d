//go:build linux

package storage

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrPath is wrapped by the errors of a path that the agent does not accept.
var ErrPath = errors.New("path not allowed")

// StateDir is where the agent keeps its own state; nothing from the host is
// mounted there.
const StateDir = "/run/byre"

var (
	roots   = []string{"/run", "/tmp", "/mnt"}
	private = []string{"/run", "/tmp", "/mnt", "/run/gcs", "/run/gcs/c", StateDir}
)

const maxPath = 1024

// CheckPath tells whether the host may name p: absolute and clean, strictly
// beneath /run, /tmp or /mnt, outside of the agent's own state, and of
// printable characters.
func CheckPath(p string) error {
	bad := func(why string) error {
		if len(p) > 80 {
			p = p[:80] + "…"
		}
		return fmt.Errorf("%w: %q %s", ErrPath, p, why)
	}
	switch {
	case p == "":
		return fmt.Errorf("%w: it is empty", ErrPath)
	case len(p) > maxPath:
		return bad("is too long")
	case p != path.Clean(p) || p[0] != '/':
		return bad("is not absolute and clean")
	case strings.ContainsFunc(p, func(r rune) bool { return !strconv.IsPrint(r) }):
		return bad("has unprintable characters")
	case slices.Contains(private, p) || within(p, StateDir):
		return bad("is the agent's own")
	case !slices.ContainsFunc(roots, func(r string) bool { return within(p, r) }):
		return bad("is not beneath " + strings.Join(roots, ", "))
	}
	return nil
}

func within(p, dir string) bool { return strings.HasPrefix(p, dir+"/") }

// MakeDir makes the folder p, with its parents, and returns it opened as a
// path. It follows no link. The caller closes it.
func MakeDir(p string, mode uint32) (*os.File, error) {
	return walk(p, func(dir int, name string) error {
		if err := unix.Mkdirat(dir, name, mode); err != nil && err != unix.EEXIST {
			return err
		}
		return nil
	})
}

// OpenDir opens the folder p as a path. It follows no link. The caller closes
// it.
func OpenDir(p string) (*os.File, error) { return walk(p, nil) }

func walk(p string, missing func(dir int, name string) error) (*os.File, error) {
	dir, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/", Err: err}
	}
	for name := range strings.SplitSeq(strings.TrimPrefix(path.Clean(p), "/"), "/") {
		next, err := enter(dir, name)
		if errors.Is(err, unix.ENOENT) && missing != nil {
			if err = missing(dir, name); err == nil {
				next, err = enter(dir, name)
			}
		}
		unix.Close(dir)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: p, Err: err}
		}
		dir = next
	}
	return os.NewFile(uintptr(dir), p), nil
}

// enter opens a folder in dir. O_NOFOLLOW with O_DIRECTORY refuses a link.
func enter(dir int, name string) (int, error) {
	return unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// fdPath names an open file so that a system call which takes a path gets
// exactly this file.
func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }
