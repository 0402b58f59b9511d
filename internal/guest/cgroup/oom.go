//go:build linux

package cgroup

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WatchOOM calls f, one call at a time, with the number of processes that the
// kernel has killed in a container for lack of memory, each time it grows.
// It watches until the function that it returns is called.
func WatchOOM(id string, f func(kills uint64)) (stop func(), err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	name := filepath.Join(dirOf(id), "memory.events")
	if _, err := unix.InotifyAddWatch(fd, name, unix.IN_MODIFY); err != nil {
		file.Close()
		return nil, fmt.Errorf("watching %s: %w", name, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var last uint64
		var buf [4096]byte
		for {
			if n := OOMKills(id); n > last {
				last = n
				f(n)
			}
			if _, err := file.Read(buf[:]); err != nil {
				return
			}
		}
	}()
	return func() {
		file.Close()
		<-done
	}, nil
}
