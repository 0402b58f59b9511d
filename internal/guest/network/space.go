//go:build linux

package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A space is a network namespace of the kernel. It lives as long as it is
// open, or somebody is in it.
type space struct {
	file *os.File
	nl   *netlink.Handle // its own
	// only4 says that this kernel has no IPv6.
	only4 bool
}

// newSpace makes an empty namespace, whose loopback device is up.
//
// Its adapters have the addresses and routes that the host says, and no others:
// what a router of their network advertises would give them addresses that the
// host does not know of, with which nothing that they send need pass.
func newSpace() (*space, error) {
	type result struct {
		f     *os.File
		only4 bool
		err   error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- result{err: os.NewSyscallError("unshare", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			made <- result{err: err}
			return
		}
		err = ignoreRouters()
		only4 := errors.Is(err, fs.ErrNotExist)
		if only4 {
			err = nil
		}
		if err = errors.Join(LoopbackUp(), err); err != nil {
			f.Close()
		}
		made <- result{f, only4, err}
	}()
	r := <-made
	if r.err != nil {
		return nil, fmt.Errorf("making a network namespace: %w", r.err)
	}
	nl, err := netlink.NewHandleAt(netns.NsHandle(r.f.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		r.f.Close()
		return nil, fmt.Errorf("making a network namespace: %w", err)
	}
	return &space{r.f, nl, r.only4}, nil
}

// ignoreRouters makes the adapters that come into this thread's namespace not
// listen to routers. Its error is fs.ErrNotExist in a kernel without IPv6.
func ignoreRouters() error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_ra", []byte("0"), 0)
}

// path is where the runtime finds the namespace.
func (s *space) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }

func (s *space) close() {
	s.nl.Close()
	s.file.Close()
}
