package hns

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/byrevm/byre/internal/usernet"
)

// A kind is a kind of network.
type kind interface {
	// complete fills in what the network decides, and refuses what it does
	// not have. s is locked.
	complete(l *local, s *state, o *ownedEndpoint) error
	// open opens the host's end. s is locked.
	open(l *local, o *ownedEndpoint) (*NIC, error)
}

// kindOf returns the kind of the network that an endpoint is on, and makes
// both of its names the same.
func kindOf(e *HNSEndpoint) (kind, error) {
	name := e.VirtualNetwork
	if name == "" {
		name = e.VirtualNetworkName
	}
	if e.VirtualNetworkName != "" && e.VirtualNetworkName != name {
		return nil, fmt.Errorf("network %.80q is not called %.80q: %w", name, e.VirtualNetworkName, ErrNotSupported)
	}
	if name == "" {
		name = NAT
	}
	e.VirtualNetwork, e.VirtualNetworkName = name, name
	word, of, named := strings.Cut(name, ":")
	switch {
	case name == NAT:
		return nat{}, nil
	case word == Bridge && named == (of != ""):
		return bridge{of}, needsRoot(name)
	case word == CNI && of != "":
		return cni{of}, needsRoot(name)
	}
	return nil, fmt.Errorf("network %.80q: %w (there are nat, bridge, bridge:NAME and cni:NAME)", name, ErrNotSupported)
}

func needsRoot(network string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("network %.80q needs root: %w", network, ErrNotSupported)
	}
	return nil
}

// giveMAC gives an endpoint without a MAC address one: locally administered.
func giveMAC(e *HNSEndpoint) error {
	if e.MacAddress != "" {
		_, err := macAddress(e.MacAddress)
		return err
	}
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		return err
	}
	b[0] = b[0]&^1 | 2
	setMAC(e, b[:])
	return nil
}

func setMAC(e *HNSEndpoint, m net.HardwareAddr) {
	e.MacAddress = strings.ToUpper(strings.ReplaceAll(m.String(), ":", "-"))
}

// macAddress reads a MAC address, with dashes or colons, that a NIC can have.
func macAddress(s string) (net.HardwareAddr, error) {
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 || m[0]&1 != 0 || string(m) == "\x00\x00\x00\x00\x00\x00" {
		return nil, fmt.Errorf("MAC address %.40q is not that of a NIC", s)
	}
	return m, nil
}

// addresses reads the addresses of an endpoint, IPAddress first.
func addresses(e *HNSEndpoint) (all []netip.Prefix, err error) {
	configs := append([]IPConfig{{e.IPAddress, e.PrefixLength}}, e.IPConfigs...)
	for _, c := range configs {
		a, ok := netip.AddrFromSlice(c.IPAddress)
		a = a.Unmap()
		if !ok || int(c.PrefixLength) > a.BitLen() || c.PrefixLength == 0 || !a.IsGlobalUnicast() {
			return nil, fmt.Errorf("address %v/%d is not that of a NIC", c.IPAddress, c.PrefixLength)
		}
		all = append(all, netip.PrefixFrom(a, int(c.PrefixLength)))
	}
	return all, nil
}

// published reads the ports that an endpoint publishes.
func published(p policies) (ports []usernet.Port, err error) {
	for _, port := range p.ports {
		a, err := netip.ParseAddr(port.ExternalIP)
		if err != nil {
			return nil, err
		}
		ports = append(ports, usernet.Port{
			Protocol: strings.ToLower(port.Protocol), Host: netip.AddrPortFrom(a, port.ExternalPort), Guest: port.InternalPort,
		})
	}
	return ports, nil
}

// hostServers gives an endpoint the host's servers of names, those that a
// guest can reach.
func hostServers(e *HNSEndpoint) {
	if e.DNSServerList != "" {
		return
	}
	e.DNSServerList = strings.Join(usernet.HostServers(), ",")
	if e.DNSServerList == "" {
		slog.Warn("no server of names of this host can be reached by guests", "endpoint", e.Id)
	}
}

// identity names the network namespace of the kernel that this thread is in.
func identity() (string, error) {
	s, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return "", errors.Join(errors.New("which network namespace is this"), err)
	}
	return s, nil
}
