package container

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const defaultShmSize = 64 << 20

// mounts returns docker's mounts plus those of o. A mount at the place of a
// default one replaces it.
func mounts(o SpecOptions) ([]specs.Mount, error) {
	if o.ShmSize < 0 {
		return nil, fmt.Errorf("size of /dev/shm %d is negative", o.ShmSize)
	}
	shm := o.ShmSize
	if shm == 0 {
		shm = defaultShmSize
	}
	ms := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(shm, 10)}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
	}
	more := slices.Clone(o.Mounts)
	for _, t := range o.Tmpfs {
		m, err := tmpfs(t)
		if err != nil {
			return nil, err
		}
		more = append(more, m)
	}
	more, err := ordered(more)
	if err != nil {
		return nil, err
	}
	for _, m := range more {
		ms = slices.DeleteFunc(ms, func(old specs.Mount) bool { return old.Destination == m.Destination })
	}
	return append(ms, more...), nil
}

// ordered returns mounts with clean places, and one inside of another after
// it. Two at one place are refused.
func ordered(out []specs.Mount) ([]specs.Mount, error) {
	seen := map[string]bool{}
	for i := range out {
		m := &out[i]
		if !path.IsAbs(m.Destination) || path.Clean(m.Destination) == "/" {
			return nil, fmt.Errorf("mount at %q: the path must be absolute and not the root", m.Destination)
		}
		m.Destination = path.Clean(m.Destination)
		if seen[m.Destination] {
			return nil, fmt.Errorf("there are two mounts at %s", m.Destination)
		}
		seen[m.Destination] = true
	}
	depth := func(m specs.Mount) int { return strings.Count(m.Destination, "/") }
	slices.SortStableFunc(out, func(a, b specs.Mount) int { return depth(a) - depth(b) })
	return out, nil
}

// tmpfsOption matches what tmpfs takes (tmpfs(5)), and the flags of any mount
// that change it.
var tmpfsOption = regexp.MustCompile(`^(?:` +
	`r[ow]|(?:no)?(?:exec|suid|dev|atime|diratime|relatime|strictatime)|a?sync|dirsync|` +
	`r?(?:private|shared|slave|unbindable)|` +
	`size=[0-9]+[kKmMgGtT%]?|nr_(?:blocks|inodes)=[0-9]+[kKmMgGtT]?|mode=[0-7]{1,4}|[ug]id=[0-9]+|mpol=.+|huge=[a-z_]+|inode(?:32|64)` +
	`)$`)

func tmpfs(s string) (specs.Mount, error) {
	dst, opts, _ := strings.Cut(s, ":")
	if !path.IsAbs(dst) || path.Clean(dst) == "/" {
		return specs.Mount{}, fmt.Errorf("tmpfs %q: the path must be absolute and not the root", s)
	}
	m := specs.Mount{Destination: path.Clean(dst), Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec"}}
	for opt := range strings.SplitSeq(opts, ",") {
		switch {
		case opt == "":
		case !tmpfsOption.MatchString(opt):
			return specs.Mount{}, fmt.Errorf("tmpfs %q: option %q is not known, or its value is no number", s, opt)
		case slices.Contains([]string{"exec", "suid", "dev"}, opt):
			m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "no"+opt })
		default:
			m.Options = append(m.Options, opt)
		}
	}
	return m, nil
}
