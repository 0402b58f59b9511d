//go:build linux

package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

// A Loader inserts kernel modules.
type Loader interface{ Insert(names ...string) error }

const (
	adapterWait = 10 * time.Second
	// recheck is how often a waiter looks without an event, should one be
	// lost.
	recheck = 100 * time.Millisecond
)

// An adapter is one that the host has added, and what there is of it.
type adapter struct {
	hcsschema.LCOWNetworkAdapter
	plan  *plan
	index int                // of the link in its namespace; 0 while it is being added
	off   context.CancelFunc // calls its adding off
	done  chan struct{}      // closed when its adding has ended
	rules []*netlink.Rule
}

// A plan is how an adapter is set up: its settings, read.
type plan struct {
	mac       net.HardwareAddr
	addresses []netip.Prefix
	routes    []route
	overhead  int
	last      bool // its routes are the last to be used
	policy    bool // what comes from its addresses goes out by it
}

// A route has an invalid hop if what it leads to is on the link.
type route struct {
	to     netip.Prefix
	hop    netip.Addr
	metric int
}

// Limits of one adapter.
const (
	maxAddresses = 64
	maxRoutes    = 256
)

// newPlan reads the settings of an adapter, of the older and the newer form.
func newPlan(a hcsschema.LCOWNetworkAdapter) (*plan, error) {
	mac, err := net.ParseMAC(a.MacAddress)
	if err != nil || len(mac) != 6 {
		return nil, fmt.Errorf("malformed MAC address %.40q", a.MacAddress)
	}
	p := &plan{mac: mac, overhead: int(a.EncapOverhead), last: a.EnableLowMetric, policy: a.PolicyBasedRouting}
	configs := a.IPConfigs
	if a.IPAddress != "" {
		configs = append([]hcsschema.LCOWIPConfig{{IPAddress: a.IPAddress, PrefixLength: a.PrefixLength}}, configs...)
	}
	if len(configs) == 0 {
		return nil, errors.New("adapter without an address: there is no DHCP client here")
	}
	if len(configs) > maxAddresses || len(a.Routes) > maxRoutes {
		return nil, fmt.Errorf("adapter with %d addresses and %d routes", len(configs), len(a.Routes))
	}
	for _, c := range configs {
		ip, err := netip.ParseAddr(c.IPAddress)
		if err != nil || ip.Zone() != "" {
			return nil, fmt.Errorf("malformed address %.80q", c.IPAddress)
		}
		ip = ip.Unmap()
		if c.PrefixLength == 0 || int(c.PrefixLength) > ip.BitLen() {
			return nil, fmt.Errorf("address %v with a prefix of %d bits", ip, c.PrefixLength)
		}
		p.addresses = append(p.addresses, netip.PrefixFrom(ip, int(c.PrefixLength)))
	}
	if a.GatewayAddress != "" {
		gw, err := netip.ParseAddr(a.GatewayAddress)
		if err != nil || gw.Zone() != "" || gw.IsUnspecified() {
			return nil, fmt.Errorf("malformed gateway %.80q", a.GatewayAddress)
		}
		gw = gw.Unmap()
		p.routes = append(p.routes, route{to: everything(gw), hop: gw})
	}
	for _, r := range a.Routes {
		made, ok, err := newRoute(r)
		if err != nil {
			return nil, err
		}
		if ok {
			p.routes = append(p.routes, made)
		}
	}
	return p, nil
}

// leaveOutIPv6 leaves an adapter that has IPv4, too, with that: a host that has
// both does not know which of them a guest's kernel has.
func (p *plan) leaveOutIPv6() {
	is6 := func(a netip.Prefix) bool { return a.Addr().Is6() }
	if !slices.ContainsFunc(p.addresses, func(a netip.Prefix) bool { return !is6(a) }) {
		return
	}
	p.addresses = slices.DeleteFunc(p.addresses, is6)
	p.routes = slices.DeleteFunc(p.routes, func(r route) bool { return is6(r.to) })
}

// newRoute reports false for a default route without a hop, which says
// nothing.
func newRoute(r hcsschema.LCOWRoute) (made route, ok bool, err error) {
	to, err := netip.ParsePrefix(r.DestinationPrefix)
	if err != nil {
		return made, false, fmt.Errorf("malformed destination %.80q", r.DestinationPrefix)
	}
	made = route{to: to.Masked(), metric: int(r.Metric)}
	if r.NextHop != "" {
		hop, err := netip.ParseAddr(r.NextHop)
		if err != nil || hop.Is4() != to.Addr().Is4() || hop.Zone() != "" {
			return made, false, fmt.Errorf("malformed next hop %.80q to %v", r.NextHop, to)
		}
		if !hop.IsUnspecified() {
			made.hop = hop
		}
	}
	return made, made.hop.IsValid() || to.Bits() > 0, nil
}

// everything is the destination of the default route by a hop.
func everything(hop netip.Addr) netip.Prefix {
	if hop.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// find waits for an adapter's link in the machine's own namespace: the one with
// its MAC address or, on Hyper-V, the one that its device has.
func find(ctx context.Context, id string, mac net.HardwareAddr, modules Loader) (netlink.Link, error) {
	if modules != nil {
		if err := modules.Insert(adapterModule()); err != nil {
			return nil, err
		}
	}
	updates, done := make(chan netlink.LinkUpdate), make(chan struct{})
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		return nil, fmt.Errorf("waiting for an adapter: %w", err)
	}
	defer func() {
		close(done)
		go func() { // its sender ends only when nobody keeps it waiting
			for range updates {
			}
		}()
	}()
	events := updates
	for {
		links, err := netlink.LinkList()
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("looking for an adapter: %w", err)
		}
		if l := pick(links, id, mac); l != nil {
			return l, nil
		}
		again := time.NewTimer(recheck)
		select {
		case u, ok := <-events:
			if !ok {
				events = nil // from here on by the clock
			} else if u.Header.Type == unix.RTM_NEWLINK {
				if l := pick([]netlink.Link{u.Link}, id, mac); l != nil {
					return l, nil
				}
			}
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			if ctx.Err() == context.Canceled {
				return nil, errRemoved
			}
			return nil, fmt.Errorf("no adapter has the MAC address %v: %w", mac, os.ErrDeadlineExceeded)
		}
		again.Stop()
	}
}

// pick returns the adapter's link, nil if it is none of these.
func pick(links []netlink.Link, id string, mac net.HardwareAddr) netlink.Link {
	name, named := vmbusLink(id)
	for _, l := range links {
		if named && name == l.Attrs().Name || !named && bytes.Equal(l.Attrs().HardwareAddr, mac) {
			return l
		}
	}
	return nil
}
