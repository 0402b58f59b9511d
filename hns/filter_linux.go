package hns

import (
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Tables of nftables that are byre's. The first has a chain for each tap, the
// second the masquerading of the own bridge.
var (
	tapTable = nftables.Table{Name: "byre", Family: nftables.TableFamilyNetdev}
	natTable = nftables.Table{Name: "byre", Family: nftables.TableFamilyIPv4}
)

// A filter lets frames of a guest pass that have its own addresses, and no
// others: it can speak for nobody else on its bridge, neither in ARP nor in
// neighbour discovery, and on no VLAN of it. An endpoint without an IPv6 address
// sends no IPv6, and none sends router advertisements.
type filter struct {
	mac       net.HardwareAddr
	addresses []netip.Addr
}

func newFilter(e *HNSEndpoint) (*filter, error) {
	mac, err := macAddress(e.MacAddress)
	if err != nil {
		return nil, err
	}
	all, err := addresses(e)
	if err != nil {
		return nil, err
	}
	f := &filter{mac: mac}
	for _, a := range all {
		f.addresses = append(f.addresses, a.Addr())
	}
	return f, nil
}

func tapChain(tap string) *nftables.Chain { return &nftables.Chain{Table: &tapTable, Name: tap} }

// install filters what comes from a tap. What an earlier tap of that name left
// is replaced.
func (f *filter) install(tap string) error {
	if err := f.remove(tap); err != nil {
		return err
	}
	c, err := nftables.New()
	if err != nil {
		return err
	}
	policy := nftables.ChainPolicyDrop
	chain := tapChain(tap)
	chain.Type, chain.Hooknum, chain.Priority = nftables.ChainTypeFilter, nftables.ChainHookIngress, nftables.ChainPriorityFilter
	chain.Policy, chain.Device = &policy, tap
	c.AddTable(&tapTable)
	c.AddChain(chain)
	for _, m := range f.rules() {
		c.AddRule(&nftables.Rule{Table: &tapTable, Chain: chain, Exprs: m})
	}
	return c.Flush()
}

// Offsets in the headers of Ethernet, IPv4, ARP for it, IPv6 and ICMPv6.
const (
	etherSource = 6
	etherType   = 12
	ip4Source   = 12
	arpEther    = 8
	arpIP       = 14
	ip6Source   = 8
	icmp6Type   = 0
	icmp6Target = 8 // of neighbour discovery
)

// Types of ICMPv6.
const (
	mldReport, mldDone, mldReport2 = 131, 132, 143
	routerAdvert                   = 134
	neighbourSolicit               = 135
	neighbourAdvert                = 136
	redirect6                      = 137
)

func (f *filter) rules() (all []rule) {
	from := payload(expr.PayloadBaseLLHeader, etherSource, f.mac)
	var six []netip.Addr
	for _, a := range f.addresses {
		b := a.AsSlice()
		if a.Is6() {
			six = append(six, a)
			continue
		}
		all = append(all,
			accept(frame(unix.ETH_P_IP), from, network(ip4Source, b)),
			accept(frame(unix.ETH_P_ARP), from, network(arpEther, f.mac), network(arpIP, b)))
	}
	if len(six) == 0 {
		return all
	}
	// A neighbour is told of the guest's own addresses only. With an extension
	// header before it, it is told all the same: so not by the first header.
	own := append(six, linkLocal(f.mac))
	for _, a := range own {
		for _, target := range own {
			all = append(all, accept(frame(unix.ETH_P_IPV6), from, network(ip6Source, a.AsSlice()),
				icmp6(neighbourAdvert), transport(icmp6Target, target.AsSlice())))
		}
	}
	for _, kind := range []byte{routerAdvert, neighbourAdvert, redirect6} {
		all = append(all, drop(icmp6(kind)))
	}
	for _, a := range six {
		all = append(all, accept(frame(unix.ETH_P_IPV6), from, network(ip6Source, a.AsSlice())))
	}
	// From the link's own address: to look for neighbours, and to be in the
	// groups that these are looked for in, for bridges that ask who is.
	for _, kind := range []byte{neighbourSolicit, mldReport, mldDone, mldReport2} {
		all = append(all, accept(frame(unix.ETH_P_IPV6), from, network(ip6Source, linkLocal(f.mac).AsSlice()), icmp6(kind)))
	}
	return all
}

// linkLocal is the address that a guest gives itself on a link.
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// remove removes the chain of a tap, and the table with the last of them.
func (f *filter) remove(tap string) error { return dropChain(tap) }

func dropChain(tap string) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	chains, err := c.ListChainsOfTableFamily(tapTable.Family)
	if err != nil {
		return err
	}
	there, others := false, false
	for _, chain := range chains {
		if chain.Table.Name == tapTable.Name {
			there = there || chain.Name == tap
			others = others || chain.Name != tap
		}
	}
	switch {
	case !there:
		return nil
	case !others:
		return dropTable(tapTable)
	}
	c.FlushChain(tapChain(tap))
	c.DelChain(tapChain(tap))
	return c.Flush()
}

// dropTable removes a table, if it is there.
func dropTable(t nftables.Table) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	c.DelTable(&t)
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

func hasTable(t nftables.Table) (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, err
	}
	all, err := c.ListTablesOfFamily(t.Family)
	return slices.ContainsFunc(all, func(other *nftables.Table) bool { return other.Name == t.Name }), err
}

// forwardDrops returns the chains of others that drop what the host forwards if
// no rule of theirs says otherwise.
func forwardDrops() (found []*nftables.Chain, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyINet} {
		chains, lerr := c.ListChainsOfTableFamily(family)
		err = errors.Join(err, lerr)
		for _, chain := range chains {
			if chain.Hooknum != nil && *chain.Hooknum == *nftables.ChainHookForward && chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop {
				found = append(found, chain)
			}
		}
	}
	return found, err
}

// masquerade makes what leaves a network of the own bridge come from this host.
// From outside nothing gets in but answers, and the guests do not reach the
// link-local addresses where clouds keep credentials.
func masquerade(of netip.Prefix) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&natTable)
	out := c.AddChain(&nftables.Chain{Table: t, Name: "out", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	c.AddRule(&nftables.Rule{Table: t, Chain: out, Exprs: join(
		within(ip4Source, of), device(expr.MetaKeyOIFNAME, expr.CmpOpNeq), []expr.Any{&expr.Masq{}})})
	pass := c.AddChain(&nftables.Chain{Table: t, Name: "pass", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: t, Chain: pass, Exprs: drop(
		device(expr.MetaKeyIIFNAME, expr.CmpOpEq), within(16, netip.MustParsePrefix("169.254.0.0/16")))})
	c.AddRule(&nftables.Rule{Table: t, Chain: pass, Exprs: drop(
		device(expr.MetaKeyOIFNAME, expr.CmpOpEq), device(expr.MetaKeyIIFNAME, expr.CmpOpNeq), answers())})
	return c.Flush()
}
