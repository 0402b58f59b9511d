package qemu

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

const kvmDevice = "/dev/kvm"

// Probe looks at what this host has of KVM. It takes a millisecond where KVM
// is real, and at most a few times the probe's limit where it is not.
func Probe() Facts {
	f := Facts{Arch: runtime.GOARCH}
	cpu, err := os.ReadFile("/proc/cpuinfo")
	f.Flag = err == nil && hasFlag(cpu, "vmx", "svm")
	if f.Arch == "amd64" && !f.Flag {
		// Still say whether the device is there.
		fd, err := openKVM()
		if f.OpenErr = err; err == nil {
			unix.Close(fd)
		}
		return f
	}
	fd, err := openKVM()
	if f.OpenErr = err; err != nil {
		return f
	}
	defer unix.Close(fd)
	if f.APIVersion, err = ioctl(fd, kvmGetAPIVersion, 0); err != nil || f.APIVersion != kvmAPIVersion {
		return f
	}
	f.probe(fd)
	return f
}

func openKVM() (int, error) {
	fd, err := unix.Open(kvmDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening %s: %w", kvmDevice, err)
	}
	return fd, nil
}

// hasFlag reports whether the first processor of /proc/cpuinfo has one of
// some flags.
func hasFlag(cpuinfo []byte, names ...string) bool {
	for line := range bytes.Lines(cpuinfo) {
		name, flags, _ := bytes.Cut(line, []byte(":"))
		if string(bytes.TrimSpace(name)) == "flags" {
			return slices.ContainsFunc(bytes.Fields(flags), func(f []byte) bool { return slices.Contains(names, string(f)) })
		}
	}
	return false
}

const kvmGetAPIVersion = 0xae00

func ioctl(fd int, request, arg uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
		if errno == 0 {
			return int(r), nil
		}
		if errno != unix.EINTR {
			return -1, errno
		}
	}
}
