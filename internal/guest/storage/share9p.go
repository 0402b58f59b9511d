//go:build linux

package storage

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

// shareMsize is the largest message that is offered to the host's file
// server, which may choose a smaller one.
const shareMsize = 512 << 10

// modules9P are what the kernel needs for 9P, in order.
var modules9P = []string{"9pnet", "9p", "9pnet_fd"}

// mount9P mounts a share by a connection of its own, which the kernel keeps
// until the share is unmounted.
func mount9P(ctx context.Context, d hcsschema.LCOWMappedDirectory, at string, dial Dialer, modules Loader) error {
	if modules != nil {
		if err := modules.Insert(modules9P...); err != nil {
			return err
		}
	}
	c, err := dial(ctx, uint32(d.Port))
	if err != nil {
		return fmt.Errorf("connecting to the host's file server: %w", err)
	}
	defer c.Close()
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("a %T has no file descriptor", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var flags uintptr
	if d.ReadOnly {
		flags = unix.MS_RDONLY
	}
	var mounted error
	err = raw.Control(func(fd uintptr) {
		mounted = unix.Mount(d.MountPath, at, "9p", flags, shareData(int(fd), d.ShareName))
	})
	if err == nil && mounted != nil {
		err = &os.PathError{Op: "mount 9p", Path: d.MountPath, Err: mounted}
	}
	return err
}

func shareData(fd int, name string) string {
	// Nothing is cached but what programs map: without the last option a file
	// that is open for writing could not be mapped shared, not even for reading.
	data := fmt.Sprintf("trans=fd,rfdno=%d,wfdno=%d,msize=%d,version=9p2000.L,cache=mmap", fd, fd, shareMsize)
	if name != "" {
		data += ",aname=" + name
	}
	return data
}
