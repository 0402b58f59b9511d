package golden

import (
	"context"
	"net"

	"github.com/byrevm/byre/hns"
)

// network is the network of the recordings: whichever namespace is asked for
// has the one endpoint.
type network struct{ hns.Network }

const (
	theEndpoint  = "aaaaaaaa-0000-4000-8000-000000000001"
	theNamespace = "99999999-0000-4000-8000-000000000001"
)

func (network) Namespace(_ context.Context, id string) (*hns.HostComputeNamespace, error) {
	return &hns.HostComputeNamespace{
		Id:            id,
		NamespaceId:   7,
		Type:          hns.NamespaceGuest,
		Resources:     []hns.NamespaceResource{hns.NewEndpointResource(theEndpoint)},
		SchemaVersion: hns.SchemaVersion{Major: 2},
	}, nil
}

func (network) Endpoint(context.Context, string) (*hns.HNSEndpoint, error) {
	return &hns.HNSEndpoint{
		Id:              theEndpoint,
		Name:            "ep1",
		VirtualNetwork:  "bbbbbbbb-0000-4000-8000-000000000001",
		MacAddress:      "00-15-5D-52-C0-01",
		IPAddress:       net.IPv4(172, 20, 0, 5),
		DNSSuffix:       "lab.local",
		DNSServerList:   "172.20.0.1,8.8.8.8",
		GatewayAddress:  "172.20.0.1",
		PrefixLength:    20,
		EnableLowMetric: true,
		Namespace:       &hns.Namespace{ID: theNamespace},
		EncapOverhead:   50,
	}, nil
}

func (network) CreateNamespace(context.Context) (*hns.HostComputeNamespace, error) {
	return &hns.HostComputeNamespace{Id: theNamespace}, nil
}

func (network) RemoveNamespace(context.Context, string) error             { return nil }
func (network) AddToNamespace(context.Context, string, string) error      { return nil }
func (network) RemoveFromNamespace(context.Context, string, string) error { return nil }
