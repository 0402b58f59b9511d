package hns

import (
	"encoding/json"
	"net"
	"slices"
)

// HNSEndpoint is what a NIC is connected to, with the addresses that the
// guest configures on it.
type HNSEndpoint struct {
	Id   string `json:"ID,omitempty"`
	Name string `json:",omitempty"`
	// VirtualNetwork is the id, and VirtualNetworkName the name, of the
	// network that the endpoint is on.
	VirtualNetwork     string            `json:",omitempty"`
	VirtualNetworkName string            `json:",omitempty"`
	Policies           []json.RawMessage `json:",omitempty"`
	// MacAddress has dashes: 00-15-5D-52-C0-01.
	MacAddress string `json:",omitempty"`
	// IPAddress nil makes the guest ask DHCP.
	IPAddress net.IP `json:",omitempty"`
	// DNSSuffix and DNSServerList are comma-separated lists.
	DNSSuffix         string `json:",omitempty"`
	DNSServerList     string `json:",omitempty"`
	GatewayAddress    string `json:",omitempty"`
	EnableInternalDNS bool   `json:",omitempty"`
	DisableICC        bool   `json:",omitempty"`
	PrefixLength      uint8  `json:",omitempty"`
	IsRemoteEndpoint  bool   `json:",omitempty"`
	// EnableLowMetric makes the NIC's routes the last to be used.
	EnableLowMetric bool `json:",omitempty"`
	// Namespace is the namespace that the endpoint is in, or nil.
	Namespace *Namespace `json:",omitempty"`
	// EncapOverhead is taken off the MTU of the NIC.
	EncapOverhead uint16 `json:",omitempty"`

	// IPConfigs are the addresses beside IPAddress, and Routes those beside
	// the default route by GatewayAddress. The Windows service has neither.
	IPConfigs []IPConfig `json:",omitempty"`
	Routes    []Route    `json:",omitempty"`
}

// An IPConfig is an address of an endpoint, of either family.
type IPConfig struct {
	IPAddress    net.IP
	PrefixLength uint8
}

// A Route is a route of an endpoint. DestinationPrefix is in CIDR form;
// NextHop "" says that it is on the link.
type Route struct {
	NextHop           string `json:",omitempty"`
	DestinationPrefix string
	Metric            uint16 `json:",omitempty"`
}

// Clone returns a copy that shares nothing with e.
func (e *HNSEndpoint) Clone() *HNSEndpoint {
	c := *e
	c.Policies = cloneRaw(e.Policies)
	c.IPAddress = append(net.IP(nil), e.IPAddress...)
	c.IPConfigs = slices.Clone(e.IPConfigs)
	for i := range c.IPConfigs {
		c.IPConfigs[i].IPAddress = slices.Clone(c.IPConfigs[i].IPAddress)
	}
	c.Routes = slices.Clone(e.Routes)
	if e.Namespace != nil {
		ns := *e.Namespace
		ns.ResourceList = cloneResources(e.Namespace.ResourceList)
		c.Namespace = &ns
	}
	return &c
}

func cloneRaw(s []json.RawMessage) []json.RawMessage {
	if s == nil {
		return nil
	}
	c := make([]json.RawMessage, len(s))
	for i, m := range s {
		c[i] = append(json.RawMessage(nil), m...)
	}
	return c
}
