//go:build linux

package boot

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/vsock"
)

// ConnectStdio connects standard streams of this process to ports of the
// host, as vsockexec does before it executes its command.
func ConnectStdio(ctx context.Context, a ExecArgs) error {
	conns := make(map[uint32]*vsock.Conn)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for fd, port := range []uint32{a.In, a.Out, a.Err} {
		if port == 0 {
			continue
		}
		c := conns[port]
		if c == nil {
			var err error
			if c, err = vsock.Dial(ctx, vsock.CIDHost, port); err != nil {
				return err
			}
			conns[port] = c
		}
		if err := duplicate(c, fd); err != nil {
			return fmt.Errorf("connecting stream %d to port %d: %w", fd, port, err)
		}
	}
	return nil
}

// duplicate makes to a blocking duplicate of c.
func duplicate(c *vsock.Conn, to int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var dup error
	err = raw.Control(func(fd uintptr) {
		if dup = unix.SetNonblock(int(fd), false); dup == nil {
			dup = unix.Dup3(int(fd), to, 0)
		}
	})
	if err == nil {
		err = os.NewSyscallError("dup", dup)
	}
	return err
}

// DrainStdio tells the host that nothing follows on the standard streams that
// are sockets, and waits until it has read everything or ctx ends. It is for
// the last moment of the first process: the kernel does not wait for what is
// still under way.
func DrainStdio(ctx context.Context) {
	for fd := 1; fd <= 2; fd++ {
		if unix.Shutdown(fd, unix.SHUT_WR) != nil {
			continue
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
		ms := 1000
		if d, ok := ctx.Deadline(); ok {
			ms = int(max(0, untilMS(d)))
		}
		unix.Poll(fds, ms)
	}
}
