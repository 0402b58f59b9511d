//go:build linux

package storage

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Loader inserts kernel modules; see package modules.
type Loader interface{ Insert(names ...string) error }

// A MountRequest describes the mount of a block device.
type MountRequest struct {
	Device   string
	Target   string // must be there
	ReadOnly bool
	FSType   string // "" to look at the superblock
	Data     string // "" for what the file system needs
	DAX      bool   // ask for direct access, and do without when there is none
	Modules  Loader // inserts the file system's module; nil leaves it to the kernel

	// Gone reports whether Device is not the one that is meant any more, and
	// not worth waiting for; nil if that cannot be.
	Gone func() bool
}

// isFinal reports whether an attempt is the last.
func (r MountRequest) isFinal(err error) bool {
	return !isNotReady(err) || r.Gone != nil && r.Gone()
}

// Mount mounts a block device. Until the deadline it bears with a device that
// is not there or not ready yet.
func Mount(deadline time.Time, r MountRequest) error {
	if r.FSType == "" {
		err := devices.wait(deadline, func() (bool, error) {
			var err error
			r.FSType, err = fsTypeOf(r.Device)
			return r.isFinal(err), err
		})
		if err != nil {
			return err
		}
	}
	if r.Modules != nil {
		if err := r.Modules.Insert(r.FSType); err != nil {
			return err
		}
	}
	var flags uintptr
	if r.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	var err error
	for _, data := range mountData(r) {
		err = devices.wait(deadline, func() (bool, error) {
			err := unix.Mount(r.Device, r.Target, r.FSType, flags, data)
			return r.isFinal(err), err
		})
		// What a kernel or device without DAX says to the option.
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
			break
		}
	}
	if err != nil {
		return &os.PathError{Op: "mount " + r.FSType, Path: r.Device, Err: err}
	}
	return nil
}

// mountData returns the option strings to try, in order.
func mountData(r MountRequest) []string {
	if r.Data != "" {
		return []string{r.Data}
	}
	plain, dax := "", "dax=always"
	if r.FSType == "ext4" {
		dax = "dax"
		if r.ReadOnly {
			// Replaying the journal would write.
			plain, dax = "noload", "noload,dax"
		}
	}
	if r.DAX {
		return []string{dax, plain}
	}
	return []string{plain}
}

// isNotReady tells of a device whose node or driver is still on its way.
func isNotReady(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EBUSY)
}

func isTemporary(err error) bool {
	return errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN)
}

// points lets those who mount or unmount at one place take turns: a Remove that
// follows an Add which was called off must find what that has made.
var points turns

type turns struct {
	mu   sync.Mutex
	busy map[string]chan struct{} // closed at the end of the turn
}

// take waits for the turn at a place; done ends it.
func (t *turns) take(place string) (done func()) {
	for {
		t.mu.Lock()
		other := t.busy[place]
		if other == nil {
			mine := make(chan struct{})
			if t.busy == nil {
				t.busy = make(map[string]chan struct{})
			}
			t.busy[place] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.busy, place)
				close(mine)
			}
		}
		t.mu.Unlock()
		<-other
	}
}

// mountAt makes the folder target and calls mount with a name for it that
// cannot change its meaning; when that fails the folder is removed again. A
// target that something is mounted at already is refused: of two mounts the
// lower one would be out of sight, and the first Unmount would take the other.
func mountAt(target string, mode uint32, mount func(at string) error) error {
	if err := CheckPath(target); err != nil {
		return err
	}
	defer points.take(target)()
	dir, err := MakeDir(target, mode)
	if err != nil {
		return fmt.Errorf("making the mount point: %w", err)
	}
	defer dir.Close()
	if err := checkFree(dir); err != nil {
		return err
	}
	if err := mount(fdPath(dir)); err != nil {
		return errors.Join(err, removeDir(target))
	}
	return nil
}

// checkFree refuses the root of a mount. It asks no server of a file system.
func checkFree(dir *os.File) error {
	var st unix.Statx_t
	if err := unix.Statx(int(dir.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		return &os.PathError{Op: "statx", Path: dir.Name(), Err: err}
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return &os.PathError{Op: "mount", Path: dir.Name(), Err: fmt.Errorf("something is mounted there: %w", unix.EBUSY)}
	}
	return nil
}

// busyWait is how long a mount may stay busy: a mount namespace that has ended
// gives up its mounts a moment later, and no event tells when.
const busyWait = 3 * time.Second

// Unmount unmounts what is at target, if there is something, and removes the
// folder when it is empty. A target that is not there is no error. Nothing
// beneath a target is ever removed.
func Unmount(target string) error {
	if err := CheckPath(target); err != nil {
		return err
	}
	defer points.take(target)()
	return unmount(target)
}

func unmount(target string) error {
	parent, err := OpenDir(path.Dir(target))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", target, err)
	}
	defer parent.Close()
	at := fdPath(parent) + "/" + path.Base(target)
	err = devices.wait(time.Now().Add(busyWait), func() (bool, error) {
		err := unix.Unmount(at, unix.UMOUNT_NOFOLLOW)
		return err != unix.EBUSY, err
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil && !errors.Is(err, unix.EINVAL): // EINVAL: it is not a mount point
		return &os.PathError{Op: "unmount", Path: target, Err: err}
	}
	return removeDir(target)
}

// removeDir removes a folder that is empty and no mount point.
func removeDir(target string) error {
	parent, err := OpenDir(path.Dir(target))
	if err != nil {
		return err
	}
	defer parent.Close()
	switch err := unix.Unlinkat(int(parent.Fd()), path.Base(target), unix.AT_REMOVEDIR); err {
	case nil, unix.ENOENT, unix.ENOTEMPTY, unix.EBUSY, unix.ENOTDIR, unix.EROFS:
		return nil
	default:
		return &os.PathError{Op: "rmdir", Path: target, Err: err}
	}
}

// UnmountBeneath unmounts everything that is mounted at dir or beneath it,
// innermost first.
func UnmountBeneath(dir string) error {
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(b)) {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime …
		if f := strings.Fields(line); len(f) > 4 {
			if p := unescape(f[4]); p == dir || within(p, dir) {
				points = append(points, p)
			}
		}
	}
	var errs []error
	for i := len(points) - 1; i >= 0; i-- {
		if err := unix.Unmount(points[i], unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL && err != unix.ENOENT {
			errs = append(errs, &os.PathError{Op: "unmount", Path: points[i], Err: err})
		}
	}
	return errors.Join(errs...)
}

// unescape undoes the octal escapes of mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
