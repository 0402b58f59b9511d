package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A record is what a system uses on the host and what the kernel does not
// give back by itself when its owner is killed.
type record struct {
	ID      string   // of the system
	Owner   int      // its process id
	VMM     proc     // QEMU
	UID     uint32   // that QEMU runs as, 0 if it is the owner's
	Cgroups []string // folders
	Sockets []string // paths
	Groups  []lentGroup
}

// A proc names a process beyond the reuse of its id.
type proc struct {
	PID   int
	Start uint64 // clock ticks after boot
}

const (
	recordFile = "record.json"
	lockFile   = "lock"
)

// A claim is the folder of one system, from before anything is made until
// everything is gone. Its owner holds a lock on a file in it: who gets the
// lock knows that the owner is dead.
type claim struct {
	dir  string
	lock *os.File
	rec  record

	devices vfioHost // where those of rec are
}

// note changes the record. It is written when note returns, so that what it
// names can be made.
func (c *claim) note(change func(*record)) error {
	change(&c.rec)
	b, err := json.Marshal(c.rec)
	if err != nil {
		return err
	}
	tmp := filepath.Join(c.dir, recordFile+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("writing the record of the system: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(c.dir, recordFile)); err != nil {
		return fmt.Errorf("writing the record of the system: %w", err)
	}
	return nil
}

// release removes everything that the record names, and the claim itself if
// nothing is left. It may be called again.
func (c *claim) release() error {
	if c.lock == nil {
		return nil
	}
	var errs []error
	if c.rec.VMM.alive() {
		errs = append(errs, unix.Kill(c.rec.VMM.PID, unix.SIGKILL))
	}
	for _, p := range c.rec.Sockets {
		errs = append(errs, removeSocket(p))
	}
	for _, p := range c.rec.Cgroups {
		errs = append(errs, removeCgroup(p))
	}
	for _, g := range c.rec.Groups { // waits for the end of QEMU
		errs = append(errs, c.devices.recover(g))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return err
	}
	err := c.lock.Close()
	c.lock = nil
	return err
}

// removeSocket removes a socket; anything else at that path is somebody
// else's.
func removeSocket(path string) error {
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode().Type() != fs.ModeSocket {
		return nil
	}
	return ignore(os.Remove(path), fs.ErrNotExist)
}

// removeCgroup removes a cgroup, which is busy until the kernel has done away
// with the processes in it. Version 2 tells when it has, by a change of
// cgroup.events. Version 1 tells nobody but a program of the root user's that
// the whole hierarchy shares (release_agent), so it is asked again.
func removeCgroup(path string) error {
	const limit, again = 2 * time.Second, time.Millisecond
	deadline := time.Now().Add(limit)
	changed := watchEvents(filepath.Join(path, "cgroup.events"))
	if changed != nil {
		defer changed.Close()
		if err := changed.SetReadDeadline(deadline); err != nil {
			return err
		}
	}
	for {
		err := os.Remove(path)
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist):
			return nil
		case !errors.Is(err, unix.EBUSY) || !time.Now().Before(deadline):
			return err
		case changed == nil:
			time.Sleep(again)
		default:
			// A change, or the deadline: both are reasons to look again.
			_, _ = changed.Read(make([]byte, unix.SizeofInotifyEvent+unix.NAME_MAX+1))
		}
	}
}

// watchEvents returns a file that can be read once another has changed, nil
// if it is not there.
func watchEvents(path string) *os.File {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		f.Close()
		return nil
	}
	return f
}

func ignore(err error, targets ...error) error {
	if slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) }) {
		return nil
	}
	return err
}
