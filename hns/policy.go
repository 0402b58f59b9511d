package hns

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// Types of the policies of an endpoint that a network of Linux knows.
const (
	// PolicyNAT publishes a port; see [PortPolicy].
	PolicyNAT = "NAT"
	// PolicyHostLoopback lets the guest reach the loopback of the host at the
	// address of its gateway. Without it nothing of the loopback is reached.
	// It has no other members.
	PolicyHostLoopback = "HostLoopback"
)

// A PortPolicy publishes a port of the guest on the host. It has the form of
// the Windows service, and ExternalIP.
type PortPolicy struct {
	Type         string // [PolicyNAT]
	Protocol     string // TCP or UDP
	InternalPort uint16 // the guest's
	ExternalPort uint16 // the host's
	// ExternalIP is the address of the host that it is published on; "" means
	// 127.0.0.1.
	ExternalIP string `json:",omitempty"`
}

// NewPolicy returns the JSON form of a policy: a [PortPolicy], or the name of
// one without members.
func NewPolicy(p any) json.RawMessage {
	if name, ok := p.(string); ok {
		p = struct{ Type string }{name}
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic(err) // a programmer's mistake: it is no policy
	}
	return b
}

// policies is what the policies of an endpoint say.
type policies struct {
	ports        []PortPolicy
	hostLoopback bool
}

// readPolicies refuses what is not known: a policy that is not carried out may
// be one that somebody's safety rests on.
func readPolicies(all []json.RawMessage) (p policies, err error) {
	for _, raw := range all {
		var port PortPolicy
		if err := json.Unmarshal(raw, &port); err != nil {
			return p, fmt.Errorf("reading policy %.80s: %w", raw, err)
		}
		switch port.Type {
		case PolicyHostLoopback:
			p.hostLoopback = true
		case PolicyNAT:
			if port.ExternalIP == "" {
				port.ExternalIP = "127.0.0.1"
			}
			if _, err := netip.ParseAddr(port.ExternalIP); err != nil {
				return p, fmt.Errorf("policy %.80s: %w", raw, err)
			}
			if t := strings.ToUpper(port.Protocol); t != "TCP" && t != "UDP" || port.InternalPort == 0 || port.ExternalPort == 0 {
				return p, fmt.Errorf("policy %.80s: a port needs a protocol, TCP or UDP, and two numbers", raw)
			}
			p.ports = append(p.ports, port)
		default:
			return p, fmt.Errorf("policy of type %q: %w", port.Type, ErrNotSupported)
		}
	}
	return p, nil
}
