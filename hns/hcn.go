package hns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// hcnEndpoint is an endpoint in the schema of the Host Compute Network
// service, version 2.
type hcnEndpoint struct {
	ID                   string        `json:",omitempty"`
	Name                 string        `json:",omitempty"`
	HostComputeNetwork   string        `json:",omitempty"`
	HostComputeNamespace string        `json:",omitempty"` // read only
	Policies             []hcnPolicy   `json:",omitempty"`
	IPConfigurations     []hcnIPConfig `json:"IpConfigurations,omitempty"`
	DNS                  hcnDNS        `json:"Dns"`
	Routes               []Route       `json:",omitempty"`
	MacAddress           string        `json:",omitempty"`
	Flags                uint32        `json:",omitempty"`
	SchemaVersion        SchemaVersion
}

type hcnIPConfig struct {
	IPAddress    string `json:"IpAddress,omitempty"`
	PrefixLength uint8  `json:",omitempty"`
}

// hcnDNS says how an endpoint looks names up. Domain is the suffix of the
// connection, Search what else is tried.
type hcnDNS struct {
	Domain     string   `json:",omitempty"`
	Search     []string `json:",omitempty"`
	ServerList []string `json:",omitempty"`
}

// Flags of an hcnEndpoint.
const (
	hcnRemote     = 1
	hcnDisableICC = 2
)

// hcnNetwork is what we read of a network.
type hcnNetwork struct {
	ID   string
	Name string
}

// hcnNoID is what the service writes for a namespace that is none.
const hcnNoID = "00000000-0000-0000-0000-000000000000"

// newHCNEndpoint returns e as the service takes it, without network and
// namespace. What the service has no member for is refused.
func newHCNEndpoint(e *HNSEndpoint) (*hcnEndpoint, error) {
	for _, m := range []struct {
		name string
		set  bool
	}{
		{"EnableInternalDNS", e.EnableInternalDNS},
		{"EnableLowMetric", e.EnableLowMetric},
		{"PrefixLength without IPAddress", e.PrefixLength != 0 && e.IPAddress == nil},
	} {
		if m.set {
			return nil, fmt.Errorf("%s: %w", m.name, ErrNotSupported)
		}
	}
	h := &hcnEndpoint{
		ID: CanonicalID(e.Id), Name: e.Name, Routes: slices.Clone(e.Routes),
		DNS:           hcnDNS{Search: splitList(e.DNSSuffix), ServerList: splitList(e.DNSServerList)},
		SchemaVersion: SchemaVersion{Major: 2},
	}
	if len(h.DNS.Search) > 0 {
		h.DNS.Domain = h.DNS.Search[0]
	}
	if e.MacAddress != "" {
		mac, err := net.ParseMAC(e.MacAddress)
		if err != nil || len(mac) != 6 {
			return nil, fmt.Errorf("%q is not a MAC address", e.MacAddress)
		}
		h.MacAddress = hcnMAC(mac)
	}
	if e.IPAddress != nil {
		h.IPConfigurations = append(h.IPConfigurations, hcnIPConfig{e.IPAddress.String(), e.PrefixLength})
	}
	for _, c := range e.IPConfigs {
		h.IPConfigurations = append(h.IPConfigurations, hcnIPConfig{c.IPAddress.String(), c.PrefixLength})
	}
	for _, c := range h.IPConfigurations {
		if a, err := netip.ParseAddr(c.IPAddress); err != nil || int(c.PrefixLength) > a.BitLen() {
			return nil, fmt.Errorf("%s/%d is not an address", c.IPAddress, c.PrefixLength)
		}
	}
	if e.GatewayAddress != "" {
		gateway, err := netip.ParseAddr(e.GatewayAddress)
		if err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
		all := Route{NextHop: gateway.String(), DestinationPrefix: "0.0.0.0/0"}
		if gateway.Is6() {
			all.DestinationPrefix = "::/0"
		}
		h.Routes = slices.Insert(h.Routes, 0, all)
	}
	if e.IsRemoteEndpoint {
		h.Flags |= hcnRemote
	}
	if e.DisableICC {
		h.Flags |= hcnDisableICC
	}
	var err error
	h.Policies, err = newHCNPolicies(e)
	return h, err
}

// endpoint returns h in our form. network is the name of its network.
func (h *hcnEndpoint) endpoint(network string) (*HNSEndpoint, error) {
	e := &HNSEndpoint{
		Id: CanonicalID(h.ID), Name: h.Name,
		VirtualNetwork: CanonicalID(h.HostComputeNetwork), VirtualNetworkName: network,
		IsRemoteEndpoint: h.Flags&hcnRemote != 0, DisableICC: h.Flags&hcnDisableICC != 0,
		DNSServerList: strings.Join(h.DNS.ServerList, ","),
	}
	suffixes := h.DNS.Search
	if h.DNS.Domain != "" && !slices.Contains(suffixes, h.DNS.Domain) {
		suffixes = slices.Insert(slices.Clone(suffixes), 0, h.DNS.Domain)
	}
	e.DNSSuffix = strings.Join(suffixes, ",")
	if h.MacAddress != "" {
		mac, err := net.ParseMAC(h.MacAddress)
		if err != nil {
			return nil, fmt.Errorf("reading endpoint %s: %w", h.ID, err)
		}
		e.MacAddress = hcnMAC(mac)
	}
	for i, c := range h.IPConfigurations {
		ip := net.ParseIP(c.IPAddress)
		if ip == nil {
			return nil, fmt.Errorf("reading endpoint %s: %q is not an address", h.ID, c.IPAddress)
		}
		if i == 0 {
			e.IPAddress, e.PrefixLength = ip, c.PrefixLength
			continue
		}
		e.IPConfigs = append(e.IPConfigs, IPConfig{ip, c.PrefixLength})
	}
	for _, r := range h.Routes {
		if e.GatewayAddress == "" && r.NextHop != "" && (r.DestinationPrefix == "0.0.0.0/0" || r.DestinationPrefix == "::/0") {
			e.GatewayAddress = r.NextHop
			continue
		}
		e.Routes = append(e.Routes, r)
	}
	if id := h.namespace(); id != "" {
		e.Namespace = &Namespace{ID: id}
	}
	if err := h.readPolicies(e); err != nil {
		return nil, fmt.Errorf("reading endpoint %s: %w", h.ID, err)
	}
	return e, nil
}

// namespace returns the id of the namespace that h is in, or "".
func (h *hcnEndpoint) namespace() string {
	if id := CanonicalID(h.HostComputeNamespace); id != hcnNoID {
		return id
	}
	return ""
}

// hcnMember is the request that puts an endpoint into a namespace, or takes
// it out: Add, Remove.
func hcnMember(request, endpointID string) (string, error) {
	b, err := json.Marshal(struct {
		ResourceType, RequestType string
		Settings                  struct{ EndpointId string }
	}{ResourceEndpoint, request, struct{ EndpointId string }{endpointID}})
	return string(b), err
}

// hcnMAC writes an address with dashes.
func hcnMAC(mac net.HardwareAddr) string {
	return strings.ToUpper(strings.ReplaceAll(mac.String(), ":", "-"))
}

func splitList(s string) (list []string) {
	for w := range strings.SplitSeq(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			list = append(list, w)
		}
	}
	return list
}

// An hcnError is what the service answered to a call.
type hcnError struct {
	Call   string // the function of computenetwork.dll
	Code   uint32 // HRESULT; 0 if there is only a record
	Record string // JSON
}

func (e *hcnError) Error() string {
	s := fmt.Sprintf("%s: code %#08x", e.Call, e.Code)
	var r struct{ Error string }
	if json.Unmarshal([]byte(e.Record), &r) == nil && r.Error != "" {
		s += ": " + strings.TrimSpace(r.Error)
	}
	return s
}

// Is tells which sentinel a code is (winerror.h, facilities HCN and WIN32).
func (e *hcnError) Is(target error) bool {
	switch e.Code {
	case 0x80070490, // ERROR_NOT_FOUND
		0x803b0001, // HCN_E_NETWORK_NOT_FOUND
		0x803b0002: // HCN_E_ENDPOINT_NOT_FOUND
		return errors.Is(ErrNotFound, target)
	case 0x800700b7, // ERROR_ALREADY_EXISTS
		0x803b0010, // HCN_E_NETWORK_ALREADY_EXISTS
		0x803b0014, // HCN_E_ENDPOINT_ALREADY_ATTACHED
		0x803b002b: // HCN_E_ENDPOINT_NAMESPACE_ALREADY_EXISTS
		return errors.Is(ErrAlreadyExists, target)
	case 0x80070005: // ERROR_ACCESS_DENIED
		return target == fs.ErrPermission
	case 0x80004001, // E_NOTIMPL
		0x80070424, // ERROR_SERVICE_DOES_NOT_EXIST
		0x803b0015, // HCN_E_REQUEST_UNSUPPORTED
		0x803b0016: // HCN_E_MAPPING_NOT_SUPPORTED
		return errors.Is(ErrNotSupported, target)
	}
	return false
}
