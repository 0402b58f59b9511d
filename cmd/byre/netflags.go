package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/byrevm/byre/hns"
)

// annotationHosts gives the guest lines for the hosts file of a container.
const annotationHosts = "io.github.byrevm.hosts"

// hostGateway stands for the address at which a container finds its host.
const hostGateway = "host-gateway"

// netFlags are the flags of the network.
type netFlags struct {
	network           string
	publish, dns      []string
	dnsSearch, toHost []string
}

func (f *netFlags) add(s *pflag.FlagSet) {
	s.StringVar(&f.network, "network", hns.NAT, "`nat`: what this host reaches, but not its loopback, in user space; bridge: the same by a bridge of byre's own, beside its other containers; bridge:NAME: on a bridge of this host; cni:NAME: what a CNI configuration makes; none: only a loopback")
	s.StringArrayVarP(&f.publish, "publish", "p", nil, "`[address:]port:port[/udp]`: a port of the host, on 127.0.0.1 if not said otherwise, for one of the container; or two ranges of ports, 8000-8009:80-89")
	s.StringArrayVar(&f.dns, "dns", nil, "`address` of a server of names (default: the host's, asked by byre)")
	s.StringArrayVar(&f.dnsSearch, "dns-search", nil, "`domain` to look names up in")
	s.StringArrayVar(&f.toHost, "add-host", nil, "`name:address` for /etc/hosts; the address host-gateway is the host: its loopback on nat, which nothing reaches otherwise, or the bridge")
}

// A networkPlan is what the flags say about the network.
type networkPlan struct {
	endpoint *hns.HNSEndpoint // nil is no network
	hosts    []hostEntry
}

// A hostEntry has an invalid address if that is the gateway's.
type hostEntry struct {
	name    string
	address netip.Addr
}

// plan reads the flags.
func (f *netFlags) plan() (p networkPlan, err error) {
	e := &hns.HNSEndpoint{VirtualNetwork: f.network}
	kind, name, named := strings.Cut(f.network, ":")
	switch {
	case f.network == hns.NAT:
	case kind == hns.Bridge && named == (name != ""):
	case kind == hns.CNI && name != "":
	case f.network == "none":
		if len(f.publish) > 0 || len(f.dns) > 0 || len(f.dnsSearch) > 0 {
			return p, errors.New("-p, --dns and --dns-search need a network, and --network none is none")
		}
		e = nil
	case f.network == "host":
		return p, errors.New("--network host: a VM has no part in the network of its host; nat reaches what this host reaches, and --add-host NAME:host-gateway its loopback")
	default:
		return p, fmt.Errorf("--network %s: want nat, bridge, bridge:NAME, cni:NAME or none", f.network)
	}
	for _, s := range f.publish {
		ports, err := parsePorts(s)
		if err == nil && len(ports)+len(e.Policies) > maxPorts {
			err = fmt.Errorf("more than %d ports in all", maxPorts)
		}
		if err != nil {
			return p, fmt.Errorf("-p %s: %w", s, err)
		}
		for _, port := range ports {
			e.Policies = append(e.Policies, hns.NewPolicy(port))
		}
	}
	for _, s := range f.dns {
		if _, err := netip.ParseAddr(s); err != nil {
			return p, fmt.Errorf("--dns: %w", err)
		}
	}
	for _, s := range f.dnsSearch {
		if !isDomain(s) {
			return p, fmt.Errorf("--dns-search %q: not a domain", s)
		}
	}
	loopback := false
	for _, s := range f.toHost {
		h, err := parseHost(s)
		if err != nil {
			return p, fmt.Errorf("--add-host %s: %w", s, err)
		}
		if !h.address.IsValid() {
			if e == nil {
				return p, fmt.Errorf("--add-host %s: --network none has no gateway", s)
			}
			if kind == hns.CNI {
				return p, fmt.Errorf("--add-host %s: the gateway of a CNI network need not be this host", s)
			}
			loopback = kind == hns.NAT
		}
		p.hosts = append(p.hosts, h)
	}
	if e != nil {
		e.DNSServerList, e.DNSSuffix = strings.Join(f.dns, ","), strings.Join(f.dnsSearch, ",")
		if n := max(len(e.DNSServerList), len(e.DNSSuffix)); n > maxNames {
			return p, fmt.Errorf("--dns or --dns-search: %d characters in all, a guest takes %d", n, maxNames)
		}
		if loopback {
			e.Policies = append(e.Policies, hns.NewPolicy(hns.PolicyHostLoopback))
		}
	}
	p.endpoint = e
	return p, nil
}

// maxNames is how long the list of servers of names, or of domains, can be.
const maxNames = 1024

// maxPorts is how many ports a container can publish: each is a listener.
const maxPorts = 1000

// parsePorts parses [address:]ports:ports[/protocol], where ports are one or,
// on both sides as many, FIRST-LAST.
func parsePorts(s string) (all []hns.PortPolicy, err error) {
	p := hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "TCP"}
	ports, protocol, ok := strings.Cut(s, "/")
	if ok {
		if p.Protocol = strings.ToUpper(protocol); p.Protocol != "TCP" && p.Protocol != "UDP" {
			return nil, fmt.Errorf("protocol %q is neither tcp nor udp", protocol)
		}
	}
	host, guest, ok := cutLast(ports)
	if !ok {
		return nil, errors.New("want HOSTPORT:PORT or ADDRESS:HOSTPORT:PORT; no port of the host is chosen here")
	}
	to, last, err := portRange(guest)
	if err != nil {
		return nil, err
	}
	if address, port, ok := cutLast(host); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"))
		if err != nil {
			return nil, err
		}
		p.ExternalIP, host = a.String(), port
	}
	from, lastFrom, err := portRange(host)
	if err != nil {
		return nil, err
	}
	if lastFrom-from != last-to {
		return nil, fmt.Errorf("%d ports of the host for %d of the container", lastFrom-from+1, last-to+1)
	}
	for n := 0; n <= last-to; n++ {
		p.ExternalPort, p.InternalPort = uint16(from+n), uint16(to+n)
		all = append(all, p)
	}
	return all, nil
}

// portRange parses FIRST-LAST or one port.
func portRange(s string) (first, last int, err error) {
	a, b, ok := strings.Cut(s, "-")
	if first, err = portNumber(a); err != nil || !ok {
		return first, first, err
	}
	if last, err = portNumber(b); err == nil && last < first {
		err = fmt.Errorf("the range %s ends before it begins", s)
	}
	return first, last, err
}

// cutLast cuts at the last colon.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

func portNumber(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port from 1 to 65535", s)
	}
	return int(n), nil
}

// parseHost parses name:address or name=address.
func parseHost(s string) (h hostEntry, err error) {
	i := strings.IndexAny(s, ":=")
	if i < 0 || !isDomain(s[:i]) {
		return h, errors.New("want NAME:ADDRESS")
	}
	h.name = s[:i]
	address := strings.TrimSuffix(strings.TrimPrefix(s[i+1:], "["), "]")
	if address == hostGateway {
		return h, nil
	}
	h.address, err = netip.ParseAddr(address)
	if err == nil && h.address.Zone() != "" {
		err = errors.New("an address in a hosts file has no zone")
	}
	return h, err
}

func isDomain(s string) bool {
	return s != "" && len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	})
}
