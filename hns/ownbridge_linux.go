package hns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// ownBridge returns byre's own bridge in a network namespace, as it is or is
// to be. A new one is written down before it can be made.
func (s *state) ownBridge(l *local, netns string) (*ownBridge, error) {
	for _, b := range s.Bridges {
		if b.NetNS == netns {
			return b, nil
		}
	}
	at, err := unusedNet()
	if err != nil {
		return nil, err
	}
	b := &ownBridge{netns, netip.PrefixFrom(at.Addr().Next(), at.Bits())}
	s.Bridges = append(s.Bridges, b)
	return b, l.write(s, nil)
}

// unusedNet returns the first of ownNets that no address or route of the host
// overlaps, routes to everything aside.
func unusedNet() (netip.Prefix, error) {
	var used []netip.Prefix
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("addresses of this host: %w", err)
	}
	for _, a := range addrs {
		// What an own bridge left that nobody knows of any more is replaced.
		if p, ok := prefixOf(a.IPNet); ok && !strings.HasPrefix(a.Label, ownName) {
			used = append(used, p)
		}
	}
	own, _ := netlink.LinkByName(ownName)
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("routes of this host: %w", err)
	}
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && p.Bits() > 0 && !(own != nil && r.LinkIndex == own.Attrs().Index) {
			used = append(used, p)
		}
	}
	for _, n := range ownNets {
		if !slices.ContainsFunc(used, n.Overlaps) {
			return n, nil
		}
	}
	return netip.Prefix{}, errors.New("this host uses all the networks that a bridge could have: make one and name it")
}

// ensure makes what there is not yet of the bridge. It is the last thing to be
// up, with all that guards it.
func (b *ownBridge) ensure() error {
	link, err := netlink.LinkByName(ownName)
	if err == nil {
		if link.Attrs().Alias != ownAlias || link.Type() != "bridge" {
			return fmt.Errorf("a device %s, which byre has not made: %w", ownName, ErrAlreadyExists)
		}
		if at, err := firstAddress(link); err == nil && at == b.Address && link.Attrs().Flags&net.FlagUp != 0 {
			return b.guard()
		}
		if err := netlink.LinkDel(link); err != nil { // half made, or of a network that was forgotten
			return err
		}
	} else if !errors.As(err, new(netlink.LinkNotFoundError)) {
		return err
	}
	err = dropTable(natTable) // of another address, perhaps
	if err == nil {
		err = b.make()
	}
	if err != nil {
		return errors.Join(err, b.remove())
	}
	return nil
}

func (b *ownBridge) make() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = ownName
	a := b.Address.Addr().As4()
	// Else it would be that of whichever tap has the lowest.
	attrs.HardwareAddr = append(net.HardwareAddr{0x02, 0xb9}, a[:]...)
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return err
	}
	link, err := netlink.LinkByName(ownName)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetAlias(link, ownAlias); err != nil {
		return err
	}
	if err := noIPv6(link); err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(b.Address)}); err != nil {
		return fmt.Errorf("address %v: %w", b.Address, err)
	}
	if err := b.guard(); err != nil {
		return err
	}
	warnOfDrops()
	return netlink.LinkSetUp(link)
}

// guard makes what there is not of the rules of the bridge: who loads rules of
// their own often removes all others first.
func (b *ownBridge) guard() error {
	there, err := hasTable(natTable)
	if err == nil && !there {
		err = masquerade(b.Address.Masked())
	}
	if err != nil {
		return fmt.Errorf("masquerading: %w", err)
	}
	return forwarding()
}

// warnOfDrops says which tables drop what the host forwards unless they have a
// rule for it, Docker's for example. No rule of another table changes that.
func warnOfDrops() {
	chains, err := forwardDrops()
	if err != nil {
		slog.Warn("it is not known whether this host lets guests on the bridge out", "err", err)
	}
	for _, c := range chains {
		slog.Warn("guests on the bridge may reach nothing outside: rules of this host drop what it forwards",
			"bridge", ownName, "table", c.Table.Name, "chain", c.Name)
	}
}

// remove removes the bridge, unless it is somebody else's, and its rules.
func (b *ownBridge) remove() error {
	err := dropTable(natTable)
	link, lerr := netlink.LinkByName(ownName)
	switch {
	case errors.As(lerr, new(netlink.LinkNotFoundError)):
	case lerr != nil:
		err = errors.Join(err, lerr)
	case link.Attrs().Alias == ownAlias || link.Attrs().Alias == "" && link.Type() == "bridge" && isOwnMAC(link):
		err = errors.Join(err, netlink.LinkDel(link))
	}
	return err
}

// isOwnMAC tells whether a bridge has the MAC address that byre gives its own,
// which it has from the first moment.
func isOwnMAC(link netlink.Link) bool {
	m := link.Attrs().HardwareAddr
	return len(m) == 6 && m[0] == 0x02 && m[1] == 0xb9
}

const forwardFile = "/proc/sys/net/ipv4/ip_forward"

// forwarding makes the host pass on the packets of others, as everything that
// connects containers by a bridge does. It stays: somebody else may rely on it
// meanwhile.
func forwarding() error {
	now, err := os.ReadFile(forwardFile)
	if err == nil && strings.TrimSpace(string(now)) == "0" {
		err = os.WriteFile(forwardFile, []byte("1"), 0)
	}
	if err != nil {
		return fmt.Errorf("making this host forward packets: %w", err)
	}
	return nil
}

// noIPv6 keeps the host itself off a link: it gets no address there.
func noIPv6(link netlink.Link) error {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return nil // there is none in this kernel
	}
	const none = 1 // IN6_ADDR_GEN_MODE_NONE
	return netlink.LinkSetIP6AddrGenMode(link, none)
}

// settle removes the own bridge of this network namespace if no endpoint is on
// it any more. What cannot be removed now is when the next change settles.
func (s *state) settle() {
	if len(s.Bridges) == 0 {
		return
	}
	here, err := identity()
	at := slices.IndexFunc(s.Bridges, func(b *ownBridge) bool { return b.NetNS == here })
	if err == nil && at < 0 || slices.ContainsFunc(s.Endpoints, func(o *ownedEndpoint) bool {
		return o.NetNS == here && o.Endpoint.VirtualNetwork == Bridge
	}) {
		return
	}
	if err == nil {
		err = s.Bridges[at].remove()
	}
	if err != nil {
		slog.Warn("bridge was not removed", "bridge", ownName, "err", err)
		return
	}
	s.Bridges = slices.Delete(s.Bridges, at, at+1)
}
