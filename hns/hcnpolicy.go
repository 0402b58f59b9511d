package hns

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// hcnPolicy is a policy as the Host Compute Network service has it. Ours, and
// those of the older half of the Windows service, have the members of Settings
// beside Type.
type hcnPolicy struct {
	Type     string
	Settings json.RawMessage `json:",omitempty"`
}

// Types of hcnPolicy with a member or a policy of ours that says the same.
const (
	hcnPortMapping   = "PortMapping"
	hcnEncapOverhead = "EncapOverhead"
)

// hcnPolicyTypes are the other types that the service knows for endpoints.
var hcnPolicyTypes = []string{
	"ACL", "InterfaceConstraint", "Iov", "L2Driver", "L4Proxy", "L4WFPPROXY", "OutBoundNAT",
	hcnPortMapping, "PortName", "ProviderAddress", "QOS", "SDNRoute", "TierAcl",
}

// hcnPort is Settings of a PortMapping. Protocol is the number of IP.
type hcnPort struct {
	Protocol     uint32 `json:",omitempty"`
	InternalPort uint16 `json:",omitempty"`
	ExternalPort uint16 `json:",omitempty"`
}

type hcnOverhead struct {
	Overhead uint16 `json:",omitempty"`
}

// hcnProtocols are the numbers of protocols in IP.
var hcnProtocols = map[string]uint32{"TCP": 6, "UDP": 17}

// newHCNPolicies returns the policies of e. It refuses what is not known, for
// somebody's safety may rest on it.
func newHCNPolicies(e *HNSEndpoint) (all []hcnPolicy, err error) {
	for _, raw := range e.Policies {
		p, err := newHCNPolicy(raw)
		if err != nil {
			return nil, fmt.Errorf("policy %.80s: %w", raw, err)
		}
		all = append(all, p)
	}
	if e.EncapOverhead != 0 {
		s, err := json.Marshal(hcnOverhead{e.EncapOverhead})
		if err != nil {
			return nil, err
		}
		all = append(all, hcnPolicy{hcnEncapOverhead, s})
	}
	return all, nil
}

func newHCNPolicy(raw json.RawMessage) (p hcnPolicy, err error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return p, err
	}
	if err := json.Unmarshal(members["Type"], &p.Type); err != nil {
		return p, fmt.Errorf("type: %w", err)
	}
	switch {
	case p.Type == PolicyNAT:
		return newHCNPort(raw)
	case !slices.Contains(hcnPolicyTypes, p.Type):
		return p, fmt.Errorf("policy of type %q: %w", p.Type, ErrNotSupported)
	}
	delete(members, "Type")
	if len(members) > 0 {
		p.Settings, err = json.Marshal(members)
	}
	return p, err
}

// newHCNPort publishes a port. The service publishes on all addresses of the
// host, so that is what must have been asked for.
func newHCNPort(raw json.RawMessage) (p hcnPolicy, err error) {
	var port PortPolicy
	if err := json.Unmarshal(raw, &port); err != nil {
		return p, err
	}
	protocol := hcnProtocols[strings.ToUpper(port.Protocol)]
	if protocol == 0 || port.InternalPort == 0 || port.ExternalPort == 0 {
		return p, fmt.Errorf("a port needs a protocol, TCP or UDP, and two numbers")
	}
	if a, err := netip.ParseAddr(port.ExternalIP); err != nil || !a.IsUnspecified() {
		return p, fmt.Errorf("%w: Windows publishes ports on all addresses of the host, which is 0.0.0.0", ErrNotSupported)
	}
	p.Type = hcnPortMapping
	p.Settings, err = json.Marshal(hcnPort{protocol, port.InternalPort, port.ExternalPort})
	return p, err
}

// readPolicies puts the policies of h into e.
func (h *hcnEndpoint) readPolicies(e *HNSEndpoint) error {
	for _, p := range h.Policies {
		if p.Type == hcnEncapOverhead {
			var o hcnOverhead
			if err := json.Unmarshal(p.Settings, &o); err != nil {
				return fmt.Errorf("policy %s: %w", p.Type, err)
			}
			e.EncapOverhead = o.Overhead
			continue
		}
		raw, err := p.flat()
		if err != nil {
			return fmt.Errorf("policy %s: %w", p.Type, err)
		}
		e.Policies = append(e.Policies, raw)
	}
	return nil
}

// flat returns p in our form. A port whose protocol has no name of ours stays
// as the service has it.
func (p hcnPolicy) flat() (json.RawMessage, error) {
	members := make(map[string]json.RawMessage)
	if len(p.Settings) > 0 {
		if err := json.Unmarshal(p.Settings, &members); err != nil {
			return nil, err
		}
	}
	if p.Type == hcnPortMapping {
		var port hcnPort
		if err := json.Unmarshal(p.Settings, &port); err != nil {
			return nil, err
		}
		for name, number := range hcnProtocols {
			if number == port.Protocol {
				return NewPolicy(PortPolicy{
					Type: PolicyNAT, Protocol: name, InternalPort: port.InternalPort, ExternalPort: port.ExternalPort,
					ExternalIP: "0.0.0.0",
				}), nil
			}
		}
	}
	var err error
	if members["Type"], err = json.Marshal(p.Type); err != nil {
		return nil, err
	}
	return json.Marshal(members)
}
