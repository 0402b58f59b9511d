//go:build linux

package network

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	lastMetric   = 500 // of the routes of an adapter that is to be the last
	policyTable  = 101 // of the first adapter; the next one has the next
	rulePriority = 5
)

// attach moves a link of the machine into the namespace, as its n-th adapter,
// and sets it up. On an error it is back where it was, and down.
func (s *space) attach(l netlink.Link, a *adapter, n int) (err error) {
	if s.only4 {
		a.plan.leaveOutIPv6()
	}
	name := fmt.Sprintf("eth%d", n)
	if err = moveAs(l, s.file, name); err != nil {
		// Where it was refused its name it is there already.
		name = l.Attrs().Name
		err = fmt.Errorf("moving the adapter into its namespace as eth%d: %w", n, err)
	}
	there, lost := s.nl.LinkByName(name)
	switch {
	case err != nil && (lost != nil || !bytes.Equal(there.Attrs().HardwareAddr, l.Attrs().HardwareAddr)):
		return err
	case lost != nil:
		return fmt.Errorf("looking for the adapter in its namespace: %w", lost)
	}
	a.index = there.Attrs().Index
	if err == nil {
		err = s.configure(there, a, n)
	}
	if err != nil {
		err = errors.Join(err, s.detach(a))
		a.index = 0
	}
	return err
}

// isGone reports whether a link that could not be attached is not there: the
// host has unplugged it.
func isGone(l netlink.Link) bool {
	_, err := netlink.LinkByIndex(l.Attrs().Index)
	return errors.As(err, new(netlink.LinkNotFoundError))
}

// moveAs moves a link of the machine to another namespace and gives it a name
// there, all by one request: a name that is given on its own takes as long as
// the move, as the kernel waits until nobody can be using the former one. It
// does so here, too, but if the link has the name, or finds its own taken.
func moveAs(l netlink.Link, to *os.File, name string) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(l.Attrs().Index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to.Fd()))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// moveBack moves a link to the machine's namespace, down.
func (s *space) moveBack(l netlink.Link) error {
	machine, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer machine.Close()
	if err := s.nl.LinkSetDown(l); err != nil {
		return err
	}
	err = s.nl.LinkSetNsFd(l, int(machine.Fd()))
	if errors.Is(err, unix.EEXIST) {
		// No link of any namespace has that name: they keep their index when
		// they move, if they can.
		if err = s.nl.LinkSetName(l, fmt.Sprintf("byre%d", l.Attrs().Index)); err == nil {
			err = s.nl.LinkSetNsFd(l, int(machine.Fd()))
		}
	}
	return err
}

// configure sets up a link that has just come.
func (s *space) configure(l netlink.Link, a *adapter, n int) error {
	index, p := l.Attrs().Index, a.plan
	if p.overhead > 0 {
		if err := s.nl.LinkSetMTU(l, l.Attrs().MTU-p.overhead); err != nil {
			return fmt.Errorf("setting an MTU of %d: %w", l.Attrs().MTU-p.overhead, err)
		}
	}
	for _, addr := range p.addresses {
		// Whoever gives the addresses out knows that nobody else has them;
		// without the flag an IPv6 address could not be used for a second.
		if err := s.nl.AddrAdd(l, &netlink.Addr{IPNet: ipNet(addr), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("adding address %v: %w", addr, err)
		}
	}
	if err := s.nl.LinkSetUp(l); err != nil {
		return fmt.Errorf("bringing the adapter up: %w", err)
	}
	metric := n + 1
	if p.last {
		metric += lastMetric
	}
	for _, r := range p.routes {
		if r.metric == 0 {
			r.metric = metric
		}
		if err := s.addRoute(index, p, r, unix.RT_TABLE_MAIN); err != nil {
			return err
		}
	}
	if n == 0 && !p.policy && !p.last {
		return nil
	}
	return s.addRules(index, a, policyTable+n)
}

// addRoute adds a route and, for a hop that no address of the adapter has on
// its link, one to the hop.
func (s *space) addRoute(index int, p *plan, r route, table int) error {
	nr := &netlink.Route{LinkIndex: index, Dst: ipNet(r.to), Priority: r.metric, Table: table}
	if r.hop.IsValid() {
		nr.Gw = r.hop.AsSlice()
		if !p.onLink(r.hop) {
			nr.Flags = int(netlink.FLAG_ONLINK)
		}
	} else if r.to.Addr().Is4() {
		nr.Scope = netlink.SCOPE_LINK
	}
	if err := s.nl.RouteAdd(nr); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("adding the route to %v: %w", r.to, err)
	}
	return nil
}

func (p *plan) onLink(hop netip.Addr) bool {
	for _, a := range p.addresses {
		if a.Contains(hop) {
			return true
		}
	}
	return hop.IsLinkLocalUnicast()
}

// addRules makes what comes from the adapter's addresses go out by it: an
// answer that took another adapter's default route would be lost.
func (s *space) addRules(index int, a *adapter, table int) error {
	for _, addr := range a.plan.addresses {
		for _, r := range a.plan.routes {
			if r.to.Addr().Is4() != addr.Addr().Is4() {
				continue
			}
			if err := s.addRoute(index, a.plan, r, table); err != nil {
				return err
			}
		}
		if err := s.addRoute(index, a.plan, route{to: addr.Masked()}, table); err != nil {
			return err
		}
		rule := netlink.NewRule()
		rule.Src = ipNet(netip.PrefixFrom(addr.Addr(), addr.Addr().BitLen()))
		rule.Table, rule.Priority = table, rulePriority
		if addr.Addr().Is6() {
			rule.Family = unix.AF_INET6
		} else {
			rule.Family = unix.AF_INET
		}
		if err := s.nl.RuleAdd(rule); err != nil {
			return fmt.Errorf("adding the rule for %v: %w", addr.Addr(), err)
		}
		a.rules = append(a.rules, rule)
	}
	return nil
}

// detach takes an adapter out of the namespace again. One that is not there
// any more, since the host has unplugged it, is no error.
func (s *space) detach(a *adapter) error {
	var errs []error
	for _, r := range a.rules {
		if err := s.nl.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("removing a rule: %w", err))
		}
	}
	a.rules = nil
	l, err := s.nl.LinkByIndex(a.index)
	if err != nil {
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return errors.Join(errs...)
		}
		return errors.Join(append(errs, err)...)
	}
	if err := s.moveBack(l); err != nil && !errors.Is(err, unix.ENODEV) {
		errs = append(errs, fmt.Errorf("taking the adapter out of its namespace: %w", err))
	}
	return errors.Join(errs...)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
