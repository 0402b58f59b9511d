package hns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inspect reads what an interface in a network namespace has into an endpoint:
// from the kernel, as not every plugin tells all that it has done.
func inspect(path, name string, e *HNSEndpoint) error {
	return inSpace(path, func() error {
		link, err := ethernet(name)
		if err != nil {
			return err
		}
		setMAC(e, link.Attrs().HardwareAddr)
		routes, err := netlink.RouteList(link, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		if err := readAddresses(link, routes, e); err != nil {
			return err
		}
		return readRoutes(routes, e)
	})
}

// ethernet returns an interface that can be taken over.
func ethernet(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	a := link.Attrs()
	if a.EncapType != "ether" || len(a.HardwareAddr) != 6 {
		return nil, fmt.Errorf("interface %s is of type %s, not Ethernet: %w", name, a.EncapType, ErrNotSupported)
	}
	return link, nil
}

// readAddresses reads the addresses, those of the link aside, which the guest
// makes itself. If the network of one is not on the link, neither is it in the
// guest.
func readAddresses(link netlink.Link, routes []netlink.Route, e *HNSEndpoint) error {
	all, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	onLink := make(map[netip.Prefix]bool)
	for _, r := range routes {
		if p, ok := prefixOf(r.Dst); ok && r.Gw == nil {
			onLink[p] = true
		}
	}
	for _, a := range all {
		p, ok := prefixOf(a.IPNet)
		if !ok || !p.Addr().IsGlobalUnicast() {
			continue
		}
		bits := p.Bits()
		if !onLink[p.Masked()] {
			bits = p.Addr().BitLen()
		}
		c := IPConfig{p.Addr().AsSlice(), uint8(bits)}
		if e.IPAddress == nil {
			e.IPAddress, e.PrefixLength = c.IPAddress, c.PrefixLength
		} else {
			e.IPConfigs = append(e.IPConfigs, c)
		}
	}
	if e.IPAddress == nil {
		return fmt.Errorf("interface %s has no address: %w", link.Attrs().Name, ErrNotSupported)
	}
	return nil
}

// readRoutes reads the routes that do not follow from the addresses. The first
// default route of IPAddress's family is the gateway's.
func readRoutes(routes []netlink.Route, e *HNSEndpoint) error {
	four := e.IPAddress.To4() != nil
	for _, r := range routes {
		if len(r.MultiPath) > 0 || r.Type != unix.RTN_UNICAST {
			return fmt.Errorf("route %v: %w", r, ErrNotSupported)
		}
		to, ok := prefixOf(r.Dst)
		if r.Dst == nil {
			to, ok = netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
			if r.Family == netlink.FAMILY_V6 {
				to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
		}
		if !ok || r.Protocol == unix.RTPROT_KERNEL || to.Addr().IsLinkLocalUnicast() || to.Addr().IsMulticast() {
			continue
		}
		hop := ""
		if r.Gw != nil {
			hop = r.Gw.String()
		}
		switch {
		case to.Bits() == 0 && hop == "":
			return fmt.Errorf("a default route without a gateway: %w", ErrNotSupported)
		case to.Bits() == 0 && to.Addr().Is4() == four && e.GatewayAddress == "":
			e.GatewayAddress = hop
		case r.Priority > 0xffff:
			return fmt.Errorf("route to %v of metric %d: %w", to, r.Priority, ErrNotSupported)
		default:
			e.Routes = append(e.Routes, Route{NextHop: hop, DestinationPrefix: to.String(), Metric: uint16(r.Priority)})
		}
	}
	return nil
}

// takeOver connects a tap to an interface in a network namespace, so that what
// comes from one goes out by the other. The namespace's own stack sees nothing
// of what comes in.
func takeOver(path, name, tapName string) (nic *NIC, err error) {
	var t *tap
	mtu := 0
	err = inSpace(path, func() (err error) {
		link, err := ethernet(name)
		if err != nil {
			return err
		}
		if t, err = newTap(tapName); err != nil {
			return err
		}
		mtu = link.Attrs().MTU
		return t.splice(link, mtu)
	})
	if err != nil {
		if t != nil {
			err = errors.Join(err, t.close())
		}
		return nil, err
	}
	return &NIC{Link: t.file, Tap: true, MTU: mtu, close: func() error {
		return errors.Join(t.close(), release(path, name))
	}}, nil
}

// splice redirects what comes in at the tap and at an interface to the other,
// and brings both up.
func (t *tap) splice(link netlink.Link, mtu int) error {
	own, err := netlink.LinkByName(t.name)
	if err != nil {
		return err
	}
	if err := errors.Join(noIPv6(own), netlink.LinkSetMTU(own, mtu)); err != nil {
		return err
	}
	if err := unredirect(link); err != nil { // what a tap that has gone left
		return err
	}
	if err := errors.Join(redirect(own, link), redirect(link, own)); err != nil {
		return fmt.Errorf("redirecting: %w", errors.Join(err, unredirect(link)))
	}
	if err := netlink.LinkSetUp(own); err != nil {
		return errors.Join(err, unredirect(link))
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		return netlink.LinkSetUp(link)
	}
	return nil
}

func ingress(link netlink.Link) *netlink.Ingress {
	return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS,
	}}
}

func redirect(from, to netlink.Link) error {
	if err := netlink.QdiscAdd(ingress(from)); err != nil {
		return err
	}
	return netlink.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: from.Attrs().Index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		Actions: []netlink.Action{netlink.NewMirredAction(to.Attrs().Index)},
	})
}

// unredirect ends the redirection from an interface, if there is one.
func unredirect(link netlink.Link) error {
	err := netlink.QdiscDel(ingress(link))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // there is none
		return nil
	}
	return err
}

// release gives an interface back to its namespace, if both are still there.
func release(path, name string) error {
	if !isSpace(path) {
		return nil
	}
	return inSpace(path, func() error {
		link, err := netlink.LinkByName(name)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return nil
		}
		if err != nil {
			return err
		}
		return unredirect(link)
	})
}
