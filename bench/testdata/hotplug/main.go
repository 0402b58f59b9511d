//go:build linux

// Command hotplug is the first process of a bare VM, which tells of the devices
// that the kernel finds, or, in a VM of byre's, mounts a share by hand.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/vsock"
)

func main() {
	do := asInit
	if os.Getpid() != 1 {
		do = mountShare
	}
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// asInit inserts what the agent inserts for devices, and prints "event NAME"
// for each block device and network adapter.
func asInit() error {
	for dir, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs"} {
		if err := unix.Mount(kind, dir, kind, 0, ""); err != nil && err != unix.EBUSY {
			return err
		}
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return err
	}
	if err := modules(); err != nil {
		return err
	}
	fmt.Println("ready")
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			continue // some were lost: too many at boot
		}
		event := string(bytes.TrimRight(buf[:n], "\x00"))
		if path, ok := strings.CutPrefix(event, "add@"); ok && (strings.Contains(event, "\x00SUBSYSTEM=block\x00") || strings.Contains(event, "\x00SUBSYSTEM=net\x00")) {
			path, _, _ = strings.Cut(path, "\x00")
			fmt.Println("event", path[strings.LastIndex(path, "/")+1:])
		}
	}
}

// modules inserts those of the index that devices need, but what belongs to
// another kind of machine.
func modules() error {
	b, err := os.ReadFile("/lib/modules/modules.byre")
	if err != nil {
		return err
	}
	type module struct {
		path, args string
		deps       []string
	}
	all := make(map[string]module)
	var want []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case slices.Contains(f, "on=hyperv"):
		case len(f) >= 3 && f[0] == "mod":
			m := module{path: f[2]}
			for _, x := range f[3:] {
				if deps, ok := strings.CutPrefix(x, "deps="); ok {
					m.deps = strings.Split(deps, ",")
				}
				if args, ok := strings.CutPrefix(x, "args="); ok {
					m.args = args
				}
			}
			all[f[1]] = m
		case len(f) == 2 && f[0] == "core":
			want = append(want, f[1])
		}
	}
	done := make(map[string]bool)
	var insert func(string) error
	insert = func(name string) error {
		m, ok := all[name]
		if done[name] || !ok {
			return nil
		}
		done[name] = true
		for _, d := range m.deps {
			if err := insert(d); err != nil {
				return err
			}
		}
		f, err := os.Open(m.path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := unix.FinitModule(int(f.Fd()), m.args, 0); err != nil && err != unix.EEXIST {
			return fmt.Errorf("module %s: %w", name, err)
		}
		return nil
	}
	for _, name := range append(want, "virtio_net") {
		if err := insert(name); err != nil {
			return err
		}
	}
	return nil
}

// mountShare mounts the share that its argument names and unmounts it, for each
// line that it reads, and prints how many seconds the mount took.
func mountShare() error {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		took, err := mountOnce()
		if err != nil {
			return err
		}
		fmt.Printf("%.9f\n", took.Seconds())
	}
	return nil
}

func mountOnce() (time.Duration, error) {
	const at = "/run/mounts/bare"
	if err := os.MkdirAll(at, 0o700); err != nil {
		return 0, err
	}
	began := time.Now()
	c, err := vsock.Dial(context.Background(), vsock.CIDHost, 564)
	if err != nil {
		return 0, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var mounted error
	err = raw.Control(func(fd uintptr) {
		mounted = unix.Mount("bare", at, "9p", 0, fmt.Sprintf("trans=fd,rfdno=%d,wfdno=%d,msize=524288,version=9p2000.L,cache=mmap,aname=%s", fd, fd, os.Args[2]))
	})
	if err != nil || mounted != nil {
		return 0, fmt.Errorf("%v, %w", err, mounted)
	}
	took := time.Since(began)
	return took, unix.Unmount(at, 0)
}
