//go:build linux

package oci

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setDevices lets a container use the devices of its specification, and no
// other: the host leaves that rule to the guest. A privileged container has
// all of the machine's.
func setDevices(s *specs.Spec) error {
	if s.Annotations[AnnotationPrivileged] == "true" {
		devices, err := allDevices("/dev")
		if err != nil {
			return err
		}
		s.Linux.Devices = append(s.Linux.Devices, devices...)
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return nil
	}
	if len(s.Linux.Resources.Devices) > 0 {
		return nil
	}
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	for _, d := range s.Linux.Devices {
		if d.Type != "p" {
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: "rwm"})
		}
	}
	s.Linux.Resources.Devices = rules
	return nil
}

// allDevices lists the device nodes beneath dir, but for those that a
// container has of its own.
func allDevices(dir string) ([]specs.LinuxDevice, error) {
	var all []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // unplugged meanwhile
			}
			return err
		}
		if d.IsDir() {
			switch strings.TrimPrefix(p, dir) {
			case "/pts", "/shm", "/fd", "/mqueue":
				return filepath.SkipDir
			}
			return nil
		}
		var st unix.Stat_t
		if d.Type()&fs.ModeDevice == 0 || unix.Lstat(p, &st) != nil {
			return nil
		}
		switch strings.TrimPrefix(p, dir) {
		case "/console", "/ptmx", "/tty", "/null", "/zero", "/full", "/random", "/urandom":
			return nil
		}
		kind := "c"
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			kind = "b"
		}
		mode := fs.FileMode(st.Mode & 0o777)
		uid, gid := st.Uid, st.Gid
		all = append(all, specs.LinuxDevice{
			Path: "/dev" + strings.TrimPrefix(p, dir), Type: kind, FileMode: &mode, UID: &uid, GID: &gid,
			Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		})
		return nil
	})
	return all, err
}
