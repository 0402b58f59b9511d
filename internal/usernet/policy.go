package usernet

import (
	"net/netip"
	"slices"
)

// destination returns where in the host's network a packet of the guest
// goes. It reports false for an address that the guest must not reach.
func (n *Net) destination(to netip.AddrPort) (netip.AddrPort, bool) {
	a := to.Addr().Unmap()
	if slices.Contains(n.cfg.gateways(), a) {
		loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if a.Is6() {
			loopback = netip.IPv6Loopback()
		}
		return netip.AddrPortFrom(loopback, to.Port()), n.cfg.HostLoopback
	}
	return netip.AddrPortFrom(a, to.Port()), reachable(a)
}

// local are the blocks that name the host itself, in whatever form.
var local = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), // Linux connects 0.0.0.0 to the loopback
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), // unspecified, loopback, IPv4-compatible
	netip.MustParsePrefix("fd00:ec2::/32"),
}

// names tells whether the gateway answers questions for names there.
func (n *Net) names(to netip.AddrPort) bool {
	return to.Port() == namePort && slices.Contains(n.cfg.gateways(), to.Addr())
}

// reachable tells whether a guest may reach an address that is not the
// gateway's.
func reachable(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return false
	}
	for _, p := range local {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
