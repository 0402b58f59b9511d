//go:build linux

package storage

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

// A Dialer connects to a vsock port of the host.
type Dialer func(ctx context.Context, port uint32) (net.Conn, error)

// shareMsize is the largest message that is offered to the host's file
// server, which may choose a smaller one.
const shareMsize = 512 << 10

// shareModules are what the kernel needs for a share, in order.
var shareModules = []string{"9pnet", "9p", "9pnet_fd"}

// AddShare mounts a 9p share of the host. The kernel keeps the connection
// until the share is unmounted.
func AddShare(ctx context.Context, d hcsschema.LCOWMappedDirectory, dial Dialer, modules Loader) error {
	if d.Port <= 0 {
		return fmt.Errorf("a share has no port %d", d.Port)
	}
	if err := checkShareName(d.ShareName); err != nil {
		return err
	}
	if modules != nil {
		if err := modules.Insert(shareModules...); err != nil {
			return err
		}
	}
	return mountAt(d.MountPath, 0o700, func(at string) error {
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
	})
}

// RemoveShare unmounts a share.
func RemoveShare(d hcsschema.LCOWMappedDirectory) error { return Unmount(d.MountPath) }

func shareData(fd int, name string) string {
	// Nothing is cached but what programs map: without the last option a file
	// that is open for writing could not be mapped shared, not even for reading.
	data := fmt.Sprintf("trans=fd,rfdno=%d,wfdno=%d,msize=%d,version=9p2000.L,cache=mmap", fd, fd, shareMsize)
	if name != "" {
		data += ",aname=" + name
	}
	return data
}

// checkShareName refuses what could be read as another mount option.
func checkShareName(name string) error {
	if len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r == ',' || !strconv.IsPrint(r) }) {
		return fmt.Errorf("a share cannot be named %q", name)
	}
	return nil
}
