package hns

import "encoding/json"

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
