package hns

import (
	"errors"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
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
// others: it can speak for nobody else on its bridge. An endpoint without an
// IPv6 address sends no IPv6, and none sends router advertisements.
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
	drop := nftables.ChainPolicyDrop
	chain := tapChain(tap)
	chain.Type, chain.Hooknum, chain.Priority = nftables.ChainTypeFilter, nftables.ChainHookIngress, nftables.ChainPriorityFilter
	chain.Policy, chain.Device = &drop, tap
	c.AddTable(&tapTable)
	c.AddChain(chain)
	for _, m := range f.rules() {
		c.AddRule(&nftables.Rule{Table: &tapTable, Chain: chain, Exprs: append(m, &expr.Verdict{Kind: expr.VerdictAccept})})
	}
	return c.Flush()
}

// Offsets in the headers of Ethernet, IPv4, ARP for it, IPv6 and ICMPv6.
const (
	etherSource = 6
	ip4Source   = 12
	arpEther    = 8
	arpIP       = 14
	ip6Next     = 6
	ip6Source   = 8
	icmp6Type   = 40 // directly after the header of IPv6
)

func (f *filter) rules() (all [][]expr.Any) {
	from := payload(expr.PayloadBaseLLHeader, etherSource, f.mac)
	six := false
	for _, a := range f.addresses {
		b := a.AsSlice()
		if a.Is6() {
			six = true
			all = append(all, join(protocol(unix.ETH_P_IPV6), from, network(ip6Source, b)))
			continue
		}
		all = append(all,
			join(protocol(unix.ETH_P_IP), from, network(ip4Source, b)),
			join(protocol(unix.ETH_P_ARP), from, network(arpEther, f.mac), network(arpIP, b)))
	}
	if six {
		// From the link's own addresses: to look for neighbours only.
		for _, kind := range []byte{135, 136} {
			all = append(all, join(protocol(unix.ETH_P_IPV6), from, network(ip6Source, []byte{0xfe, 0x80}),
				network(ip6Next, []byte{unix.IPPROTO_ICMPV6}), network(icmp6Type, []byte{kind})))
		}
	}
	return all
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

// masquerade makes what leaves a network of the own bridge come from this host.
// From outside nothing gets in but answers, and the guests do not reach the
// link-local addresses where clouds keep credentials.
func masquerade(of netip.Prefix) error {
	if err := dropTable(natTable); err != nil {
		return err
	}
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
	drop := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	c.AddRule(&nftables.Rule{Table: t, Chain: pass, Exprs: join(
		device(expr.MetaKeyIIFNAME, expr.CmpOpEq), within(16, netip.MustParsePrefix("169.254.0.0/16")), drop)})
	into := join(device(expr.MetaKeyOIFNAME, expr.CmpOpEq), device(expr.MetaKeyIIFNAME, expr.CmpOpNeq))
	c.AddRule(&nftables.Rule{Table: t, Chain: pass, Exprs: join(into, answers(), drop)})
	return c.Flush()
}

// answers matches what is no answer: neither established nor related.
func answers() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
	}
}

func protocol(ether uint16) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(ether)}}
}

func payload(base expr.PayloadBase, offset uint32, want []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: uint32(len(want))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want},
	}
}

func network(offset uint32, want []byte) []expr.Any {
	return payload(expr.PayloadBaseNetworkHeader, offset, want)
}

// within matches an IPv4 address in the header that is in a prefix.
func within(offset uint32, p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()},
	}
}

// device compares the name of a device with that of the own bridge.
func device(key expr.MetaKey, op expr.CmpOp) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, ownName)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: name}}
}

func join(parts ...[]expr.Any) (all []expr.Any) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
