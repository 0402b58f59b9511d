//go:build linux

package stdio

import (
	"errors"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// A drain reads a pipe by way of a second one of its own.
//
// The kernel copies a pipe's bytes under the pipe's lock: a process that wants
// to write waits until a reader has copied all that it asked for. Moving the
// pages to another pipe is short, and the process goes on while they are
// copied from there.
type drain struct {
	from *os.File
	r, w int // the second pipe
}

// newDrain returns a drain of src, which stays the caller's, or an error if
// src is not a pipe. The caller closes it.
func newDrain(src io.Reader) (*drain, error) {
	from, ok := src.(*os.File)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, errors.ErrUnsupported
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize) // else it stays as it is
	return &drain{from: from, r: fds[0], w: fds[1]}, nil
}

// Read waits until the pipe holds something, and reads up to len(b) bytes of
// that, or as much as fits into the second pipe. Nothing is left in that.
func (d *drain) Read(b []byte) (int, error) {
	moved, err := again(func() (int, error) {
		n, err := unix.Splice(int(d.from.Fd()), nil, d.w, nil, len(b), 0)
		return int(n), os.NewSyscallError("splice", err)
	})
	if err != nil {
		return 0, err
	}
	if moved == 0 {
		return 0, io.EOF
	}
	for n := 0; n < moved; {
		m, err := again(func() (int, error) {
			m, err := unix.Read(d.r, b[n:moved])
			if m == 0 && err == nil {
				err = io.ErrUnexpectedEOF
			}
			return m, os.NewSyscallError("read", err)
		})
		if err != nil {
			return n, err
		}
		n += m
	}
	return moved, nil
}

// again makes a call until no signal breaks it off.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// Close closes the second pipe.
func (d *drain) Close() error {
	return errors.Join(os.NewSyscallError("close", unix.Close(d.r)), os.NewSyscallError("close", unix.Close(d.w)))
}

// ahead lets the caller's thread, which is then its own until the goroutine
// ends, run until it has nothing to do. The kernel's sender would have the
// processor after every packet else, where it can send many at once. A relay
// has nothing to do as soon as its pipe is empty or the host has not read what
// was sent, so others run soon. Where it is not allowed, all stays as it is.
func ahead() {
	runtime.LockOSThread()
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0)
}
