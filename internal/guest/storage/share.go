//go:build linux

package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/byrevm/byre/hcsschema"
)

// A Dialer connects to a vsock port of the host.
type Dialer func(ctx context.Context, port uint32) (net.Conn, error)

// Shares mount folders of the host: those of the one virtio-fs device that the
// machine has for all of them, or one by one by 9P.
type Shares struct {
	Dial Dialer // for 9P
	Log  *slog.Logger

	// Only9P does without the device.
	Only9P bool

	// Mounted is called, if not nil, after each mount of a folder of the device.
	Mounted func()
}

// Add mounts a share. It is 9P's where the machine has no device, or the device
// no such share, whose name need not be that of a file.
func (s *Shares) Add(ctx context.Context, d hcsschema.LCOWMappedDirectory, modules Loader) error {
	if d.Port <= 0 {
		return fmt.Errorf("a share has no port %d", d.Port)
	}
	if err := checkShareName(d.ShareName); err != nil {
		return err
	}
	return mountAt(d.MountPath, 0o700, func(at string) error {
		if !s.Only9P && isFileName(d.ShareName) {
			err := mountFolder(d.ShareName, at, d.ReadOnly, modules)
			if err == nil {
				if s.Mounted != nil {
					s.Mounted()
				}
				return nil
			}
			if !errors.Is(err, errNoFolder) {
				return err
			}
			s.Log.InfoContext(ctx, "share is mounted by 9P", "share", d.ShareName, "why", err.Error())
		}
		return mount9P(ctx, d, at, s.Dial, modules)
	})
}

// Remove unmounts a share.
func (s *Shares) Remove(d hcsschema.LCOWMappedDirectory) error { return Unmount(d.MountPath) }

// checkShareName refuses what could be read as another mount option.
func checkShareName(name string) error {
	if len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r == ',' || !strconv.IsPrint(r) }) {
		return fmt.Errorf("a share cannot be named %q", name)
	}
	return nil
}

// isFileName tells whether a share of that name can be an entry of a folder.
func isFileName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.Contains(name, "/")
}
