//go:build linux

package storage

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// events hears of the kernel's device events. The zero value is ready; it
// opens its socket when somebody waits for the first time, and keeps it.
type events struct {
	once sync.Once

	mu   sync.Mutex
	next chan struct{} // closed by the next event
}

var devices events

// recheck is how often a waiter looks without an event: some transitions have
// none, such as a disk that answers at last.
const recheck = 50 * time.Millisecond

// WaitDevice calls check until it says that it is done, at each event of a
// device, and returns check's error. When the deadline has passed it returns
// the last one.
func WaitDevice(deadline time.Time, check func() (done bool, err error)) error {
	return devices.wait(deadline, check)
}

// wait calls check until it says that it is done, at each event, and returns
// check's error. When the deadline has passed it returns
// [os.ErrDeadlineExceeded], or check's last error if it has one: check's error
// with done false is one that may go away.
func (e *events) wait(deadline time.Time, check func() (done bool, err error)) error {
	e.once.Do(e.start)
	timeout := time.NewTimer(time.Until(deadline))
	defer timeout.Stop()
	for {
		next := e.subscribe()
		done, err := check()
		if done {
			return err
		}
		again := time.NewTimer(recheck)
		select {
		case <-next:
		case <-again.C:
		case <-timeout.C:
			again.Stop()
			if err == nil {
				err = os.ErrDeadlineExceeded
			}
			return err
		}
		again.Stop()
	}
}

func (e *events) subscribe() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.next == nil {
		e.next = make(chan struct{})
	}
	return e.next
}

func (e *events) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.next != nil {
		close(e.next)
		e.next = nil
	}
}

// start opens the socket. Without it, in a namespace that hears nothing,
// waiters look by the clock.
func (e *events) start() {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return
	}
	f := os.NewFile(uintptr(fd), "uevent")
	go func() {
		defer f.Close()
		buf := make([]byte, 4096)
		for {
			// What the event says does not matter, nor that one was lost
			// (ENOBUFS): waiters look for themselves.
			if _, err := f.Read(buf); err != nil && !isTemporary(err) {
				return
			}
			e.wake()
		}
	}()
}
