package hns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/usernet"
)

// Endpoints that ask for no address get the second one of a block of their
// own, so that several can be in one namespace.
var (
	natRange = netip.MustParsePrefix("10.213.0.0/16")
	natBlock = 28
)

// nat is a network in user space. It needs no root.
type nat struct{}

func (nat) complete(_ *local, s *state, o *ownedEndpoint) error {
	e := o.Endpoint
	if len(e.IPConfigs) > 0 || len(e.Routes) > 0 {
		return fmt.Errorf("more addresses or routes in network %q: %w", NAT, ErrNotSupported)
	}
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
			return nil
		}
		for range 1 << (32 - natBlock) {
			first = first.Next()
		}
	}
	return errors.New("every address is in use")
}

// userNetwork returns what an endpoint asks of its network.
func userNetwork(e *HNSEndpoint) (cfg usernet.Config, err error) {
	all, err := addresses(e)
	if err != nil {
		return cfg, err
	}
	guest := all[0].Addr()
	gateway := all[0].Masked().Addr().Next()
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
	cfg = usernet.Config{Guest: guest, Gateway: gateway, HostLoopback: p.hostLoopback, Names: map[string]netip.Addr{
		"gateway.byre.internal": gateway,
	}}
	if p.hostLoopback {
		cfg.Names["host.byre.internal"] = gateway
	}
	cfg.Publish, err = published(p)
	return cfg, err
}

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
