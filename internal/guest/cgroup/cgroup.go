//go:build linux

package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Parent is the cgroup of all containers.
const Parent = "/containers"

// Mount is where version 2 is mounted; a variable for tests.
var Mount = "/sys/fs/cgroup"

// ErrVersion means that the machine has no cgroup version 2.
var ErrVersion = errors.New("no cgroup version 2")

// Setup makes the parent of all containers, with a limit of all memory but
// reserve bytes. A second call does nothing but give the first one's error.
func Setup(reserve uint64) error {
	setupOnce.Do(func() { setupErr = setup(reserve) })
	return setupErr
}

var (
	setupOnce sync.Once
	setupErr  error
)

func setup(reserve uint64) error {
	if err := Unify(); err != nil {
		return err
	}
	if err := delegate(Mount); err != nil {
		return err
	}
	dir := filepath.Join(Mount, Parent)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	total, err := memTotal("/proc/meminfo")
	if err != nil {
		return err
	}
	limit := total / 2 // a machine this small keeps half
	if total > 2*reserve {
		limit = total - reserve
	}
	if err := write(dir, "memory.max", strconv.FormatUint(limit, 10)); err != nil {
		return err
	}
	return delegate(dir)
}

// freeTime is how long the kernel may take to give up a hierarchy of version 1
// that was unmounted. It is done by a worker of the kernel, and no event tells
// when: cgroup.controllers is a file whose changes are not notified, unlike
// cgroup.events.
const freeTime = 5 * time.Second

// Unify makes sure that version 2 is mounted with all controllers, in place of
// version 1 if another init has mounted that. The kernel gives version 2 the
// controllers that no hierarchy of version 1 has.
func Unify() error {
	if mounted() {
		return nil
	}
	// With all that is mounted beneath it; nothing may be mounted at all.
	unix.Unmount(Mount, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	err := unix.Mount("cgroup2", Mount, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "nsdelegate")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrVersion, err)
	}
	for end := time.Now().Add(freeTime); ; time.Sleep(10 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(Mount, "cgroup.controllers"))
		if err != nil {
			return err
		}
		if slices.Contains(strings.Fields(string(b)), "memory") {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: it has the controllers %q only", ErrVersion, b)
		}
	}
}

func mounted() bool {
	var st unix.Statfs_t
	return unix.Statfs(Mount, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// delegate gives the children of a cgroup every controller that it has.
func delegate(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	all := strings.Fields(string(b))
	if write(dir, "cgroup.subtree_control", "+"+strings.Join(all, " +")) == nil {
		return nil
	}
	for _, c := range all {
		// One by one: a controller that refuses must not cost the others.
		write(dir, "cgroup.subtree_control", "+"+c)
	}
	return nil
}

func write(dir, name, value string) error {
	return os.WriteFile(filepath.Join(dir, name), []byte(value), 0)
}

func memTotal(meminfo string) (uint64, error) {
	f, err := os.Open(meminfo)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) == 3 && w[0] == "MemTotal:" {
			kb, err := strconv.ParseUint(w[1], 10, 54)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no MemTotal", meminfo)
}

// Path returns the cgroup of a container, as its specification names it.
func Path(id string) string { return Parent + "/" + id }

func dirOf(id string) string { return filepath.Join(Mount, Parent, id) }

// Kill kills every process of a container. A cgroup that is not there has
// none.
func Kill(id string) error {
	err := write(dirOf(id), "cgroup.kill", "1")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// Processes returns the ids of a container's processes.
func Processes(id string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dirOf(id), func(p string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return ignoreGone(err)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return ignoreGone(err)
		}
		for _, w := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(w); err == nil && n > 0 {
				pids = append(pids, n)
			}
		}
		return nil
	})
	return pids, err
}

// ignoreGone is for cgroups that end, or become threaded, while one looks.
func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// OOMKills returns how many processes of a container the kernel has killed
// because it was out of memory.
func OOMKills(id string) uint64 {
	return keyed(dirOf(id), "memory.events")["oom_kill"]
}
