package container

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const defaultShmSize = 64 << 20

// mounts returns docker's mounts plus those of o. A tmpfs at the place of a
// default mount replaces it.
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
	for _, t := range o.Tmpfs {
		m, err := tmpfs(t)
		if err != nil {
			return nil, err
		}
		ms = slices.DeleteFunc(ms, func(old specs.Mount) bool { return old.Destination == m.Destination })
		ms = append(ms, m)
	}
	return ms, nil
}

func tmpfs(s string) (specs.Mount, error) {
	dst, opts, _ := strings.Cut(s, ":")
	if !path.IsAbs(dst) || path.Clean(dst) == "/" {
		return specs.Mount{}, fmt.Errorf("tmpfs %q: the path must be absolute and not the root", s)
	}
	m := specs.Mount{Destination: path.Clean(dst), Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec"}}
	for opt := range strings.SplitSeq(opts, ",") {
		switch {
		case opt == "":
		case slices.Contains([]string{"exec", "suid", "dev"}, opt):
			m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "no"+opt })
		default:
			m.Options = append(m.Options, opt)
		}
	}
	return m, nil
}
