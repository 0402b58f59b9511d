package hns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/usernet"
)

// Endpoints that ask for no address get the second one of a block of their
// own, so that several can be in one namespace; on a host that reaches what has
// IPv6 one of that, too. Its prefix goes on with the block's number. It is not
// one of those that are all the world's, so that a guest prefers IPv4 where it
// has the choice.
var (
	natRange  = netip.MustParsePrefix("10.213.0.0/16")
	natBlock  = 28
	natRange6 = netip.MustParsePrefix("fd62:7972:6565::/48")
)

// nat is a network in user space. It needs no root.
type nat struct{}

func (nat) complete(_ *local, s *state, o *ownedEndpoint) error {
	e := o.Endpoint
	routes := e.Routes
	e.Routes = nil
	if err := giveMAC(e); err != nil {
		return err
	}
	if e.IPAddress == nil {
		if err := s.giveBlock(e); err != nil {
			return err
		}
	}
	cfg, err := userNetwork(e)
	if err != nil {
		return err
	}
	e.GatewayAddress = cfg.Gateway.String()
	if cfg.Gateway2.IsValid() {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if cfg.Gateway2.Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		e.Routes = []Route{{NextHop: cfg.Gateway2.String(), DestinationPrefix: all.String()}}
	}
	if len(routes) > 0 && !slices.Equal(routes, e.Routes) {
		return fmt.Errorf("routes in network %q: %w", NAT, ErrNotSupported)
	}
	if e.DNSServerList == "" {
		e.DNSServerList = e.GatewayAddress
	}
	return usernet.Check(cfg.Publish...)
}

// giveBlock gives an address in the first block that no endpoint has one in.
func (s *state) giveBlock(e *HNSEndpoint) error {
	used := make(map[netip.Prefix]bool)
	for _, o := range s.Endpoints {
		if a, ok := netip.AddrFromSlice(o.Endpoint.IPAddress); ok {
			if p, err := a.Unmap().Prefix(natBlock); err == nil {
				used[p] = true
			}
		}
	}
	for first := natRange.Addr(); natRange.Contains(first); {
		p := netip.PrefixFrom(first, natBlock)
		if !used[p] {
			e.IPAddress = net.IP(first.Next().Next().AsSlice())
			e.PrefixLength = uint8(natBlock)
			e.GatewayAddress = first.Next().String()
			if len(e.IPConfigs) == 0 && hasIPv6() {
				six, four := natRange6.Addr().As16(), first.As4()
				six[6], six[7], six[15] = four[2], four[3], 2
				e.IPConfigs = []IPConfig{{netip.AddrFrom16(six).AsSlice(), 64}}
			}
			return nil
		}
		for range 1 << (32 - natBlock) {
			first = first.Next()
		}
	}
	return errors.New("every address is in use")
}

// hasIPv6 tells whether this host has a way to what has IPv6. Nothing is sent.
func hasIPv6() bool {
	c, err := net.Dial("udp6", "[2000::1]:9")
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// userNetwork returns what an endpoint asks of its network.
func userNetwork(e *HNSEndpoint) (cfg usernet.Config, err error) {
	all, err := addresses(e)
	if err != nil {
		return cfg, err
	}
	guest, gateway := all[0].Addr(), firstOf(all[0])
	if e.GatewayAddress != "" {
		if gateway, err = netip.ParseAddr(e.GatewayAddress); err != nil {
			return cfg, fmt.Errorf("gateway: %w", err)
		}
	}
	if gateway == guest || gateway.Is4() != guest.Is4() || !gateway.IsGlobalUnicast() || gateway.Zone() != "" {
		return cfg, fmt.Errorf("gateway %v does not fit address %v", gateway, guest)
	}
	p, err := readPolicies(e.Policies)
	if err != nil {
		return cfg, err
	}
	if len(all) > 2 || len(all) == 2 && all[1].Addr().Is4() == guest.Is4() {
		return cfg, fmt.Errorf("more than one address of a family in network %q: %w", NAT, ErrNotSupported)
	}
	cfg = usernet.Config{Guest: guest, Gateway: gateway, HostLoopback: p.hostLoopback, Names: map[string]netip.Addr{
		"gateway.byre.internal": gateway,
	}}
	if p.hostLoopback {
		cfg.Names["host.byre.internal"] = gateway
	}
	if len(all) == 2 {
		cfg.Guest2, cfg.Gateway2 = all[1].Addr(), firstOf(all[1])
		if cfg.Guest2 == cfg.Gateway2 {
			return cfg, fmt.Errorf("address %v is that of the gateway", cfg.Guest2)
		}
	}
	cfg.Publish, err = published(p)
	return cfg, err
}

// firstOf is the first address of a network.
func firstOf(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }

func (nat) open(_ *local, o *ownedEndpoint) (*NIC, error) {
	cfg, err := userNetwork(o.Endpoint)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	n, err := usernet.New(ours, cfg)
	if err != nil {
		return nil, errors.Join(err, theirs.Close())
	}
	return &NIC{Link: theirs, MTU: usernet.MTU, close: n.Close}, nil
}

func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	f := os.NewFile(uintptr(fds[0]), "nic")
	theirs := os.NewFile(uintptr(fds[1]), "nic")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return c, theirs, nil
}
