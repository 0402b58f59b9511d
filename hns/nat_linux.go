package hns

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/internal/usernet"
)

// Endpoints that ask for no address get the second one of a block of their
// own, so that several can be in one namespace.
var (
	natRange = netip.MustParsePrefix("10.213.0.0/16")
	natBlock = 28
)

// complete fills in what the network decides, and refuses what it does not
// have.
func (s *state) complete(e *HNSEndpoint) error {
	for _, name := range []string{e.VirtualNetwork, e.VirtualNetworkName} {
		if name != "" && name != NAT {
			return fmt.Errorf("network %q: %w (there is %q)", name, ErrNotSupported, NAT)
		}
	}
	e.VirtualNetwork, e.VirtualNetworkName = NAT, NAT
	if e.IsRemoteEndpoint {
		return fmt.Errorf("member IsRemoteEndpoint: %w", ErrNotSupported)
	}
	if e.MacAddress == "" {
		var b [6]byte
		if _, err := rand.Read(b[:]); err != nil {
			return err
		}
		b[0] = b[0]&^1 | 2 // of one NIC, locally administered
		e.MacAddress = strings.ToUpper(strings.ReplaceAll(net.HardwareAddr(b[:]).String(), ":", "-"))
	} else if _, err := macAddress(e.MacAddress); err != nil {
		return err
	}
	if e.IPAddress == nil {
		if err := s.giveAddress(e); err != nil {
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
	for _, p := range cfg.Publish {
		if err := p.Check(); err != nil {
			return err
		}
	}
	return nil
}

// giveAddress gives the first block that no endpoint has an address in.
func (s *state) giveAddress(e *HNSEndpoint) error {
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

// macAddress reads a MAC address, with dashes or colons, that a NIC can have.
func macAddress(s string) (net.HardwareAddr, error) {
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 || m[0]&1 != 0 || string(m) == "\x00\x00\x00\x00\x00\x00" {
		return nil, fmt.Errorf("MAC address %.40q is not that of a NIC", s)
	}
	return m, nil
}

// userNetwork returns what an endpoint asks of its network.
func userNetwork(e *HNSEndpoint) (cfg usernet.Config, err error) {
	guest, ok := netip.AddrFromSlice(e.IPAddress)
	guest = guest.Unmap()
	if !ok || int(e.PrefixLength) > guest.BitLen() || e.PrefixLength == 0 || !guest.IsGlobalUnicast() {
		return cfg, fmt.Errorf("address %v/%d is not that of a NIC", e.IPAddress, e.PrefixLength)
	}
	gateway := netip.PrefixFrom(guest, int(e.PrefixLength)).Masked().Addr().Next()
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
	for _, port := range p.ports {
		a, err := netip.ParseAddr(port.ExternalIP)
		if err != nil {
			return cfg, err
		}
		cfg.Publish = append(cfg.Publish, usernet.Port{
			Protocol: strings.ToLower(port.Protocol), Host: netip.AddrPortFrom(a, port.ExternalPort), Guest: port.InternalPort,
		})
	}
	return cfg, nil
}

// OpenNIC implements [Opener].
func (l *local) OpenNIC(ctx context.Context, id string) (nic *NIC, err error) {
	err = l.changed(ctx, "connecting a NIC", func(s *state) error {
		e, err := s.endpoint(id)
		if err == nil {
			nic, err = l.openNIC(e.Endpoint)
		}
		return err
	})
	if err != nil {
		if nic != nil {
			err = errors.Join(err, nic.Close())
		}
		return nil, err
	}
	return nic, nil
}

func (l *local) openNIC(e *HNSEndpoint) (_ *NIC, err error) {
	cfg, err := userNetwork(e)
	if err != nil {
		return nil, err
	}
	mac, err := macAddress(e.MacAddress)
	if err != nil {
		return nil, err
	}
	used, err := tryLock(filepath.Join(l.dir, nicsDir, CanonicalID(e.Id)))
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("endpoint %s has a NIC: %w", e.Id, ErrAlreadyExists)
	}
	if err != nil {
		return nil, err
	}
	free := func() error { return errors.Join(os.Remove(used.Name()), used.Close()) }
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, errors.Join(err, free())
	}
	n, err := usernet.New(ours, cfg)
	if err != nil {
		return nil, errors.Join(err, theirs.Close(), free())
	}
	end := sync.OnceValue(func() error {
		theirs.Close() // may have been closed before
		// Under the lock of the state, so that nobody who has just opened the
		// file takes the lock of one that is not there any more.
		return errors.Join(n.Close(), l.change(context.Background(), func(*state) error { return free() }))
	})
	return &NIC{Link: theirs, MTU: usernet.MTU, MAC: mac.String(), close: end}, nil
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
