//go:build linux

package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/guest/reaper"
)

// fifo is what init of a created container waits at: it opens it for writing,
// which a reader lets happen, writes one byte, and executes its program.
const fifo = "exec.fifo"

// ErrEnded means that init has ended before it was started.
var ErrEnded = errors.New("its init has ended")

// Start lets the init of a created container run. It does what the program's
// own start does, which is to read init's fifo (hooks run elsewhere): a run of
// the program less is a tenth of a second under emulation. Where there is no
// fifo the program is asked.
func (r *Runtime) Start(ctx context.Context, id string, init *reaper.Child) error {
	name := filepath.Join(r.Root, id, fifo)
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return r.call(ctx, id, "start")
	}
	if err == nil {
		err = release(ctx, f, init)
		f.Close()
	}
	if err == nil {
		// The program takes the fifo for the sign of a container that was
		// not started yet.
		err = os.Remove(name)
	}
	if err != nil {
		return fmt.Errorf("starting container %s: %w", id, err)
	}
	return nil
}

// release reads init's byte. Without a writer a fifo is at its end, so that
// only an end after an event means that init has gone.
func release(ctx context.Context, f *os.File, init *reaper.Child) error {
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-init.Done():
			f.SetReadDeadline(time.Unix(1, 0))
		case <-over:
		}
	}()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	n := 0
	first := true
	var reading error
	waiting := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, reading = unix.Read(int(fd), b[:])
		again := n <= 0 && (first || reading == unix.EAGAIN || reading == unix.EINTR)
		first = false
		return !again
	})
	if waiting != nil && ctx.Err() == nil {
		// Init has ended, which it may have done after its byte.
		_ = raw.Control(func(fd uintptr) {
			var b [1]byte
			n, reading = unix.Read(int(fd), b[:])
		})
	}
	switch {
	case n == 1:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case waiting != nil || reading == nil:
		return ErrEnded
	}
	return os.NewSyscallError("read", reading)
}
