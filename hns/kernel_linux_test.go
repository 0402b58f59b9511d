package hns_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hns"
)

// A kernel is a network namespace with one adapter, as a guest has it: what the
// kernel sends by it goes to a NIC.
type kernel struct{ do chan func() }

// in runs f, whose sockets are the guest's.
func (k kernel) in(f func() error) error {
	done := make(chan error)
	k.do <- func() { done <- f() }
	return <-done
}

func newKernel(t *testing.T, nic *hns.NIC, e *hns.HNSEndpoint) kernel {
	t.Helper()
	k := kernel{make(chan func())}
	go func() {
		runtime.LockOSThread() // not unlocked
		for f := range k.do {
			f()
		}
	}()
	var tap *os.File
	err := k.in(func() error {
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNET), link("lo", netlink.LinkSetUp)); err != nil {
			return err
		}
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		ifr, err := unix.NewIfreq("eth0")
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if !nic.Tap {
			ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		}
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
			return err
		}
		tap = os.NewFile(uintptr(fd), "tap")
		return link("eth0", func(l netlink.Link) error { return configure(l, nic, e) })
	})
	if err != nil {
		t.Fatal(err)
	}
	sent, received := make(chan struct{}), make(chan struct{})
	if nic.Tap {
		go func() { defer close(sent); frames(nic.Link, tap) }()
		go func() { defer close(received); frames(tap, nic.Link) }()
	} else {
		go func() { defer close(sent); toStream(nic.Link, tap) }()
		go func() { defer close(received); fromStream(tap, nic.Link) }()
	}
	t.Cleanup(func() {
		tap.Close()
		if err := nic.Close(); err != nil {
			t.Error(err)
		}
		<-sent
		<-received
		close(k.do)
	})
	return k
}

// frames copies frames from one tap to another.
func frames(to, from *os.File) {
	buf := make([]byte, 70000)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		to.Write(buf[:n])
	}
}

// toStream copies frames to a stream, each after its length.
func toStream(to, from *os.File) {
	buf := make([]byte, 4+70000)
	for {
		n, err := from.Read(buf[4:])
		if err != nil {
			return
		}
		binary.BigEndian.PutUint32(buf, uint32(n))
		if _, err := to.Write(buf[:4+n]); err != nil {
			return
		}
	}
}

func fromStream(to, from *os.File) {
	buf := make([]byte, 70000)
	for {
		if _, err := io.ReadFull(from, buf[:4]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(buf)
		if _, err := io.ReadFull(from, buf[:n]); err != nil {
			return
		}
		to.Write(buf[:n])
	}
}

// configure gives an adapter what an endpoint has.
func configure(l netlink.Link, nic *hns.NIC, e *hns.HNSEndpoint) error {
	mac, err := net.ParseMAC(nic.MAC)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetHardwareAddr(l, mac), netlink.LinkSetMTU(l, nic.MTU), netlink.LinkSetUp(l)); err != nil {
		return err
	}
	for _, c := range append([]hns.IPConfig{{IPAddress: e.IPAddress, PrefixLength: e.PrefixLength}}, e.IPConfigs...) {
		n := &net.IPNet{IP: c.IPAddress, Mask: net.CIDRMask(int(c.PrefixLength), 128)}
		if c.IPAddress.To4() != nil {
			n.IP, n.Mask = c.IPAddress.To4(), net.CIDRMask(int(c.PrefixLength), 32)
		}
		if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: n, Flags: unix.IFA_F_NODAD}); err != nil {
			return err
		}
	}
	hops := []string{e.GatewayAddress}
	for _, r := range e.Routes {
		hops = append(hops, r.NextHop)
	}
	for _, hop := range hops {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(hop)}); err != nil {
			return err
		}
	}
	return nil
}

// echo answers what comes at an address, TCP and UDP.
func echo(t *testing.T, address string) (port int, err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return 0, err
	}
	t.Cleanup(func() { l.Close() })
	u, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	t.Cleanup(func() { u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	go func() {
		buf := make([]byte, 70000)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			u.WriteTo(buf[:n], from)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// said is what an address answers to a text.
func said(network, address, text string) error {
	c, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go c.Write([]byte(text))
	got := make([]byte, len(text))
	k := 0
	if network == "udp" {
		k, err = c.Read(got)
	} else {
		k, err = io.ReadFull(c, got)
	}
	if err != nil || string(got[:k]) != text {
		return fmt.Errorf("%s %s: got %d of %d bytes, %w", network, address, k, len(text), err)
	}
	return nil
}
