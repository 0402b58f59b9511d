//go:build linux

package virtio

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Kick is the eventfd by which the guest says that it has put something into
// a ring. Who waits for it has a thread of its own that the kernel wakes: one
// system call and one switch, where the runtime's poller needs several of each.
type Kick struct {
	of   *Backend // which waits for Free
	poll int      // epoll instance of the other two

	mu     sync.Mutex // guards the rest
	fd     int        // -1 when closed
	over   int        // eventfd that ends the wait
	closed bool
}

const (
	kickToken = iota
	overToken
)

// newKick takes over fd, also when it fails.
func newKick(fd int) (_ *Kick, err error) {
	k := &Kick{fd: fd, poll: -1, over: -1}
	defer func() {
		if err != nil {
			k.free()
		}
	}()
	if err = unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	if k.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if k.over, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	// Each kick is an edge: the counter need not be read.
	if err = k.add(fd, unix.EPOLLIN|unix.EPOLLET, kickToken); err != nil {
		return nil, fmt.Errorf("not an eventfd: %w", err)
	}
	return k, k.add(k.over, unix.EPOLLIN, overToken)
}

func (k *Kick) add(fd int, events uint32, token int32) error {
	return unix.EpollCtl(k.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: token})
}

// wait returns nil when the guest has kicked since the last time, and
// os.ErrClosed after close. One goroutine calls it, and Free when it has
// returned an error.
func (k *Kick) wait() error {
	var events [2]unix.EpollEvent
	for {
		n, err := unix.EpollWait(k.poll, events[:], -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, e := range events[:n] {
			if e.Fd == overToken {
				return os.ErrClosed
			}
		}
		return nil
	}
}

// nudge makes wait return, as if the guest had kicked.
func (k *Kick) nudge() {
	k.mu.Lock()
	notify(k.fd)
	k.mu.Unlock()
}

// close ends the wait. What was counted by then is neither for QEMU, which may
// look at the eventfd next, nor for another Kick of it, whose owner looks at the
// ring first of all. A second call does nothing.
func (k *Kick) close() {
	k.mu.Lock()
	if !k.closed {
		k.closed = true
		var b [8]byte
		_, _ = unix.Read(k.fd, b[:])
		notify(k.over)
	}
	k.mu.Unlock()
}

// Free is called when nobody waits for the kick any more, and never will.
func (k *Kick) Free() {
	k.free()
	k.of.kicks.Done()
}

// free closes the descriptors.
func (k *Kick) free() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, fd := range []*int{&k.fd, &k.over, &k.poll} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
			*fd = -1
		}
	}
}
