package pipe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// connectWait is how long a thread waits in one attempt to connect to a
// server whose queue is full.
const connectWait = time.Second

// A Socket is a Unix stream socket of this host. It stays the same one,
// whatever becomes of its path.
type Socket struct {
	file *os.File // opened as a path
}

// Open opens the socket at path; a symbolic link is followed. It does not
// connect, but what nobody could connect to is an error: something else than
// a stream socket, one that is not bound any more, or that this process may
// not write to. The caller closes it.
func Open(path string) (*Socket, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	s := &Socket{os.NewFile(uintptr(fd), path)}
	if err := s.check(); err != nil {
		s.Close()
		return nil, &os.PathError{Op: "open socket", Path: path, Err: err}
	}
	return s, nil
}

var errDatagram = errors.New("a datagram socket, not a stream")

func (s *Socket) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errNoSocket
	}
	// A stream socket refuses a datagram socket as of the wrong type, and
	// who listens does not hear of it.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, s.addr()); err {
	case unix.EPROTOTYPE:
		return nil
	case nil:
		return errDatagram
	default:
		return err
	}
}

// addr names exactly this socket, by its descriptor.
func (s *Socket) addr() unix.Sockaddr {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", s.file.Fd())}
}

// Dial connects to the socket. It waits for a server whose queue is full. The
// caller owns the connection.
func (s *Socket) Dial(ctx context.Context) (Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), s.file.Name())
	defer f.Close()
	limit := unix.NsecToTimeval(connectWait.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	for {
		err := unix.Connect(fd, s.addr())
		if err == nil {
			break
		}
		if err != unix.EAGAIN && err != unix.EINTR {
			return nil, &net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: s.file.Name(), Net: "unix"}, Err: os.NewSyscallError("connect", err)}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	c, err := net.FileConn(f) // a duplicate, which does not block
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// Close closes the socket; connections stay.
func (s *Socket) Close() error { return s.file.Close() }
