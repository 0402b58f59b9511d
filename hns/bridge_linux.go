package hns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/byrevm/byre/internal/usernet"
)

// bridge is a bridge of this host, with a tap for each NIC: byre's own, or the
// one of that name.
type bridge struct{ name string }

// An ownBridge is byre's own bridge in a network namespace of the kernel. It is
// there as long as there is an endpoint on it.
type ownBridge struct {
	NetNS   string
	Address netip.Prefix // the bridge's
}

const (
	ownName  = "byre0"
	ownAlias = "byre: the endpoints of network bridge" // what tells that it is ours
)

// ownNets are where the addresses of the own bridge are taken from: the first
// that nothing of the host overlaps.
var ownNets = []netip.Prefix{
	netip.MustParsePrefix("10.214.0.0/20"), netip.MustParsePrefix("10.215.0.0/20"), netip.MustParsePrefix("10.216.0.0/20"),
	netip.MustParsePrefix("172.27.0.0/20"), netip.MustParsePrefix("172.28.0.0/20"), netip.MustParsePrefix("192.168.208.0/20"),
}

func (b bridge) complete(l *local, s *state, o *ownedEndpoint) (err error) {
	e := o.Endpoint
	if o.NetNS, err = identity(); err != nil {
		return err
	}
	var at netip.Prefix // the bridge's address
	var named netlink.Link
	if b.name == "" {
		own, err := s.ownBridge(l, o.NetNS)
		if err != nil {
			return err
		}
		if err := own.ensure(); err != nil {
			return fmt.Errorf("making the bridge: %w", err)
		}
		at = own.Address
	} else {
		if named, err = findBridge(b.name); err != nil {
			return err
		}
		if at, err = firstAddress(named); err != nil {
			return err
		}
	}
	if err := s.giveBridged(o, at); err != nil {
		return err
	}
	if b.name == "" && !at.Contains(mustAddr(e.IPAddress)) && mustAddr(e.IPAddress).Is4() {
		return fmt.Errorf("address %v is not in %v, the network of the bridge", e.IPAddress, at.Masked())
	}
	if _, err := newFilter(e); err != nil {
		return err
	}
	hostServers(e)
	ports, err := bridgePorts(e)
	if err != nil {
		return err
	}
	if len(ports) > 0 && (named != nil || mustAddr(e.IPAddress).Is6()) {
		if err := reaches(b, e); err != nil {
			return err
		}
	}
	return usernet.Check(ports...)
}

// reaches fails if this host does not reach an endpoint by its bridge, as who
// publishes its ports must. On its own bridge it has no IPv6.
func reaches(b bridge, e *HNSEndpoint) error {
	link, err := findBridge(b.device())
	if err != nil {
		return err
	}
	routes, err := netlink.RouteGet(e.IPAddress)
	if err == nil && len(routes) > 0 && routes[0].LinkIndex == link.Attrs().Index {
		return nil
	}
	return fmt.Errorf("published ports of %v, which this host does not reach by bridge %s: %w", e.IPAddress, link.Attrs().Name, ErrNotSupported)
}

// giveBridged gives an endpoint what it lacks of an address, a gateway and a
// MAC address on a bridge that has the address at, if it has one.
func (s *state) giveBridged(o *ownedEndpoint, at netip.Prefix) error {
	e := o.Endpoint
	taken := s.bridged(o)
	if e.IPAddress == nil {
		if !at.IsValid() {
			return fmt.Errorf("network %s has no IPv4 address, from which that of an endpoint would follow: give it one", e.VirtualNetwork)
		}
		a, err := free(at, taken)
		if err != nil {
			return err
		}
		e.IPAddress, e.PrefixLength = a.AsSlice(), uint8(at.Bits())
	}
	given := mustAddr(e.IPAddress)
	if e.PrefixLength == 0 && at.IsValid() && at.Contains(given) {
		e.PrefixLength = uint8(at.Bits())
	}
	all, err := addresses(e)
	if err != nil {
		return err
	}
	for _, a := range all {
		if taken[a.Addr()] || a.Addr() == at.Addr() {
			return fmt.Errorf("address %v: %w", a.Addr(), ErrAlreadyExists)
		}
	}
	if e.GatewayAddress == "" && at.IsValid() && at.Contains(given) {
		e.GatewayAddress = at.Addr().String()
	}
	if e.MacAddress == "" && given.Is4() {
		// The same for the same address: what others remember of a neighbour
		// stays right when the address is given out again.
		b := given.As4()
		setMAC(e, append(net.HardwareAddr{0x02, 0xb9}, b[:]...))
	} else if err := giveMAC(e); err != nil {
		return err
	}
	mac, _ := macAddress(e.MacAddress)
	for _, other := range s.neighbours(o) {
		if m, err := macAddress(other.Endpoint.MacAddress); err == nil && slices.Equal(m, mac) {
			return fmt.Errorf("MAC address %v: %w", mac, ErrAlreadyExists)
		}
	}
	return nil
}

// neighbours are the other endpoints on the bridge of o.
func (s *state) neighbours(o *ownedEndpoint) (all []*ownedEndpoint) {
	for _, other := range s.Endpoints {
		if other != o && other.NetNS == o.NetNS && other.Endpoint.VirtualNetwork == o.Endpoint.VirtualNetwork {
			all = append(all, other)
		}
	}
	return all
}

// bridged are the addresses that the neighbours of o have.
func (s *state) bridged(o *ownedEndpoint) map[netip.Addr]bool {
	taken := make(map[netip.Addr]bool)
	for _, other := range s.neighbours(o) {
		if all, err := addresses(other.Endpoint); err == nil {
			for _, p := range all {
				taken[p.Addr()] = true
			}
		}
	}
	return taken
}

// free returns the first address beside at that nobody has.
func free(at netip.Prefix, taken map[netip.Addr]bool) (netip.Addr, error) {
	net := at.Masked()
	// The first is the network's, the last is broadcast.
	for a := net.Addr().Next(); net.Contains(a) && net.Contains(a.Next()); a = a.Next() {
		if a != at.Addr() && !taken[a] {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("every address of %v is in use", net)
}

// mustAddr is the zero Addr for what is no address.
func mustAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func bridgePorts(e *HNSEndpoint) ([]usernet.Port, error) {
	p, err := readPolicies(e.Policies)
	if err != nil {
		return nil, err
	}
	if p.hostLoopback {
		return nil, fmt.Errorf("policy %s in network %s: %w", PolicyHostLoopback, e.VirtualNetwork, ErrNotSupported)
	}
	return published(p)
}

func (b bridge) open(_ *local, o *ownedEndpoint) (_ *NIC, err error) {
	e := o.Endpoint
	here, err := identity()
	if err != nil {
		return nil, err
	}
	if here != o.NetNS {
		return nil, fmt.Errorf("endpoint %s is in another network namespace of this host: %w", e.Id, ErrNotFound)
	}
	ports, err := bridgePorts(e)
	if err != nil {
		return nil, err
	}
	filter, err := newFilter(e)
	if err != nil {
		return nil, err
	}
	name := b.device()
	link, err := findBridge(name)
	if err != nil {
		return nil, err
	}
	tap, err := newTap(tapName(e.Id))
	if err != nil {
		return nil, err
	}
	undo := func() error { return errors.Join(tap.close(), filter.remove(tap.name)) }
	// Before it is up, so that no frame passes it unseen.
	if err := filter.install(tap.name); err != nil {
		return nil, errors.Join(fmt.Errorf("filtering what the guest sends: %w", err), undo())
	}
	mtu := link.Attrs().MTU
	if err := tap.join(link, mtu, e.DisableICC); err != nil {
		return nil, errors.Join(fmt.Errorf("connecting the tap to bridge %s: %w", name, err), undo())
	}
	f, err := usernet.Forward(mustAddr(e.IPAddress), ports)
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	return &NIC{Link: tap.file, Tap: true, MTU: mtu, close: func() error { return errors.Join(f.Close(), undo()) }}, nil
}

// device is the name of the bridge's device.
func (b bridge) device() string {
	if b.name == "" {
		return ownName
	}
	return b.name
}

// findBridge returns the bridge of that name.
func findBridge(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, fmt.Errorf("bridge %.40q: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("bridge %.40q: %w", name, err)
	}
	if link.Type() != "bridge" {
		return nil, fmt.Errorf("%.40q is a %s, not a bridge", name, link.Type())
	}
	return link, nil
}

// firstAddress returns the first IPv4 address of a link, an invalid one if it
// has none.
func firstAddress(link netlink.Link) (netip.Prefix, error) {
	all, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("addresses of %s: %w", link.Attrs().Name, err)
	}
	for _, a := range all {
		if p, ok := prefixOf(a.IPNet); ok {
			return p, nil
		}
	}
	return netip.Prefix{}, nil
}

// prefixOf reports false for what is no prefix; nil, as a destination, is none.
func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, size := n.Mask.Size()
	a = a.Unmap()
	if !ok || size != a.BitLen() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, bits), true
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
