package qemu

import (
	"bufio"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// QEMU runs as a user of its own if the owner is root: each system as another
// one, so that no QEMU can signal or trace another.
const (
	firstUID = 1879048192 // 0x70000000: between what systemd hands out and the end of signed ids
	lastUID  = firstUID + 1<<16 - 1
	nobody   = 65534
)

// freeUID returns the id for a new system, 0 for the owner's.
func freeUID(taken []uint32) uint32 {
	if os.Geteuid() != 0 {
		return 0
	}
	m := idMap("/proc/self/uid_map")
	g := idMap("/proc/self/gid_map")
	for id := uint32(firstUID); id <= lastUID && m.has(id) && g.has(id); id++ {
		if !slices.Contains(taken, id) {
			return id
		}
	}
	if m.has(nobody) && g.has(nobody) {
		return nobody
	}
	return 0
}

// A mapping is the ids that exist in a user namespace.
type mapping [][2]uint64 // first, count

func idMap(path string) mapping {
	f, err := os.Open(path)
	if err != nil {
		return mapping{{0, math.MaxUint32}}
	}
	defer f.Close()
	var m mapping
	for s := bufio.NewScanner(f); s.Scan(); {
		var inside, outside, n uint64
		if _, err := fmt.Sscan(strings.TrimSpace(s.Text()), &inside, &outside, &n); err == nil {
			m = append(m, [2]uint64{inside, n})
		}
	}
	return m
}

func (m mapping) has(id uint32) bool {
	return slices.ContainsFunc(m, func(r [2]uint64) bool { return uint64(id) >= r[0] && uint64(id) < r[0]+r[1] })
}

// credential returns what QEMU runs as, nil for the owner's user. It keeps
// the group that may use KVM; a /dev/kvm that only root can open leaves QEMU
// with root.
func credential(uid uint32, accel string) *syscall.Credential {
	if uid == 0 {
		return nil
	}
	c := &syscall.Credential{Uid: uid, Gid: uid}
	if accel != AccelKVM {
		return c
	}
	fi, err := os.Stat(kvmDevice)
	if err != nil {
		return c
	}
	switch mode := fi.Mode().Perm(); {
	case mode&0o006 == 0o006:
	case mode&0o060 == 0o060:
		c.Groups = []uint32{fi.Sys().(*syscall.Stat_t).Gid}
	default:
		return nil
	}
	return c
}

// readableBy reports whether a process with that credential may open the file
// for reading by a descriptor it was given, where no folder counts.
func readableBy(fi fs.FileInfo, c *syscall.Credential) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if c == nil || !ok {
		return true
	}
	mode := fi.Mode().Perm()
	switch {
	case st.Uid == c.Uid:
		return mode&0o400 != 0
	case st.Gid == c.Gid || slices.Contains(c.Groups, st.Gid):
		return mode&0o040 != 0
	}
	return mode&0o004 != 0
}

// writable reports whether this process may make something in a folder.
func writable(dir string) bool { return unix.Access(dir, unix.W_OK) == nil }
