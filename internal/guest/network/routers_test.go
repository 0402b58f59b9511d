//go:build linux

package network

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

// advertise sends what a router says to all of its link by a device: that
// addresses of fd09::/64 are to be had, and itself for the rest.
func advertise(t *testing.T, device string) {
	t.Helper()
	l, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	router, all := net.ParseIP("fe80::1"), net.IPv6linklocalallnodes
	m := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	m = append(m, 3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0)
	m = append(m, net.ParseIP("fd09::")...)
	sum := uint32(len(m) + unix.IPPROTO_ICMPV6)
	for _, b := range [][]byte{router, all, m} {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(m[2:], ^uint16(sum))
	f := append([]byte{0x33, 0x33, 0, 0, 0, 1}, l.Attrs().HardwareAddr...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(m)), unix.IPPROTO_ICMPV6, 255)
	f = append(append(append(f, router...), all...), m...)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// It has arrived when this returns: a pair of devices has no queue.
	if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index, Halen: 6}); err != nil {
		t.Fatal(err)
	}
}

// An adapter has what the host has given it, whatever a router says.
func TestRoutersIgnored(t *testing.T) {
	machine(t)
	plug(t, 1, "02:00:00:00:00:01", "fd01::1/64")
	var n Namespaces
	a := hcsschema.LCOWNetworkAdapter{NamespaceID: "n", ID: "a", MacAddress: "02:00:00:00:00:01", IPAddress: "fd01::2", PrefixLength: 64}
	if err := n.Add(a, nil); err != nil {
		t.Fatal(err)
	}
	path, leave, err := n.Join("n")
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	reach(t, path, "[fd01::1]:0")
	advertise(t, "host1")
	inside(t, path, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if ip := a.IP.String(); ip != "fd01::2" && !a.IP.IsLinkLocalUnicast() {
				t.Errorf("the adapter has taken the address %s", ip)
			}
		}
		routes, err := netlink.RouteList(l, netlink.FAMILY_V6)
		for _, r := range routes {
			if r.Gw != nil {
				t.Errorf("the adapter has taken the route %v", r)
			}
		}
		if err != nil || len(addrs) == 0 || len(routes) == 0 {
			return fmt.Errorf("got addresses %v and routes %v, %w", addrs, routes, err)
		}
		return nil
	})
}

// A kernel without IPv6 leaves that out of an adapter that has both.
func TestWithoutIPv6(t *testing.T) {
	machine(t)
	plug(t, 1, "02:00:00:00:00:01", "10.1.0.1/24")
	var n Namespaces
	path, leave, err := n.Join("n")
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	n.all["n"].space.only4 = true
	a := hcsschema.LCOWNetworkAdapter{NamespaceID: "n", ID: "a", MacAddress: "02:00:00:00:00:01", IPAddress: "10.1.0.2", PrefixLength: 24,
		IPConfigs: []hcsschema.LCOWIPConfig{{IPAddress: "fd01::2", PrefixLength: 64}},
		Routes:    []hcsschema.LCOWRoute{{NextHop: "fd01::1", DestinationPrefix: "::/0"}, {NextHop: "10.1.0.1", DestinationPrefix: "0.0.0.0/0"}}}
	if err := n.Add(a, nil); err != nil {
		t.Fatal(err)
	}
	reach(t, path, "10.1.0.1:0")
	inside(t, path, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		for _, a := range addrs {
			if a.IP.To4() == nil && !a.IP.IsLinkLocalUnicast() {
				t.Errorf("got address %v", a.IP)
			}
		}
		return err
	})
	p, err := newPlan(hcsschema.LCOWNetworkAdapter{MacAddress: "02:00:00:00:00:01", IPAddress: "fd01::2", PrefixLength: 64})
	if err != nil {
		t.Fatal(err)
	}
	if p.leaveOutIPv6(); len(p.addresses) != 1 {
		t.Error("an adapter without IPv4 has no address left, instead of failing")
	}
}
