package hns_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
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
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
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
	go func() {
		defer close(sent)
		buf := make([]byte, 4+70000)
		for {
			n, err := tap.Read(buf[4:])
			if err != nil {
				return
			}
			binary.BigEndian.PutUint32(buf, uint32(n))
			if _, err := nic.Link.Write(buf[:4+n]); err != nil {
				return
			}
		}
	}()
	go func() {
		defer close(received)
		buf := make([]byte, 70000)
		for {
			if _, err := io.ReadFull(nic.Link, buf[:4]); err != nil {
				return
			}
			n := binary.BigEndian.Uint32(buf)
			if _, err := io.ReadFull(nic.Link, buf[:n]); err != nil {
				return
			}
			tap.Write(buf[:n])
		}
	}()
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
	for _, hop := range []string{e.GatewayAddress, e.Routes[0].NextHop} {
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

// Linux behind a NIC of nat: both families, packets of its MTU, ports.
func TestNATGuest(t *testing.T) {
	if !apart(t) {
		return
	}
	n := session(t, t.TempDir())
	four, err4 := echo(t, "127.0.0.1:0")
	six, err6 := echo(t, "[::1]:0")
	if err := errors.Join(err4, err6); err != nil {
		t.Fatal(err)
	}
	var published [2]int
	e := hns.HNSEndpoint{
		IPConfigs: []hns.IPConfig{{IPAddress: net.ParseIP("fd00:b::2"), PrefixLength: 64}},
		Policies:  []json.RawMessage{hns.NewPolicy(hns.PolicyHostLoopback)},
	}
	for i, p := range []string{"TCP", "UDP"} {
		u, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		published[i] = u.LocalAddr().(*net.UDPAddr).Port
		u.Close()
		e.Policies = append(e.Policies, hns.NewPolicy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: p, InternalPort: 7, ExternalPort: uint16(published[i])}))
	}
	made := create(t, n, e)
	nic, err := n.(hns.Opener).OpenNIC(t.Context(), made.Id)
	if err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, nic, made)
	large := strings.Repeat("large ", 10000) // in one packet
	for _, address := range []string{fmt.Sprintf("%s:%d", made.GatewayAddress, four), fmt.Sprintf("[%s]:%d", made.Routes[0].NextHop, six)} {
		for _, network := range []string{"tcp", "udp"} {
			for _, text := range []string{"small", large} {
				if err := k.in(func() error { return said(network, address, text) }); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if err := k.in(func() error { _, err := echo(t, ":7"); return err }); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"small", large} {
		if err := errors.Join(said("tcp", fmt.Sprintf("127.0.0.1:%d", published[0]), text), said("udp", fmt.Sprintf("127.0.0.1:%d", published[1]), text)); err != nil {
			t.Errorf("published: %v", err)
		}
	}
	// The loopback is the gateway's only, and nothing of the links is reached.
	for _, to := range []string{"169.254.169.254:80", "[fd00:ec2::254]:80"} {
		if err := k.in(func() error { return said("tcp", to, "x") }); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: got %v, want %v", to, err, unix.ECONNREFUSED)
		}
	}
}
