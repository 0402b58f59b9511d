package hns

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A tap is a device whose other end is a descriptor. It is persistent for
// nobody: it is gone when the last descriptor is, ours and QEMU's.
type tap struct {
	name string
	file *os.File
}

// tapName is the name of the tap of an endpoint: no two have the same, and the
// same endpoint always does.
func tapName(id string) string {
	sum := sha256.Sum256([]byte(CanonicalID(id)))
	return "byre" + hex.EncodeToString(sum[:5])
}

// newTap makes a tap in the network namespace of this thread. It is down.
func newTap(name string) (*tap, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("making tap %s: %w", name, err)
	}
	// Only now: a device that is not attached yet cannot be polled.
	return &tap{name, os.NewFile(uintptr(fd), "/dev/net/tun")}, nil
}

// join connects the tap to a bridge and brings it up. An isolated one does not
// reach the others that are.
func (t *tap) join(to netlink.Link, mtu int, isolated bool) error {
	link, err := netlink.LinkByName(t.name)
	if err != nil {
		return err
	}
	if err := errors.Join(noIPv6(link), netlink.LinkSetMTU(link, mtu), netlink.LinkSetMaster(link, to)); err != nil {
		return err
	}
	if isolated {
		if err := netlink.LinkSetIsolated(link, true); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// cutOff takes a tap off its bridge for good, if it is there: what has it is
// connected to nothing from then on.
func cutOff(name string) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return
	}
	if err == nil {
		err = errors.Join(netlink.LinkSetDown(link), netlink.LinkSetNoMaster(link))
	}
	// It may have gone meanwhile.
	if err != nil && !errors.Is(err, unix.ENODEV) && os.Geteuid() == 0 {
		slog.Warn("tap of an endpoint that was removed was not cut off", "tap", name, "err", err)
	}
}

// close closes our descriptor; it may have been closed before.
func (t *tap) close() error {
	if err := t.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
