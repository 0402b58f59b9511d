package hns

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

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
