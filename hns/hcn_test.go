package hns_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/hns/hnstest"
)

func TestHCN(t *testing.T) {
	hnstest.TestNetwork(t, func(*testing.T) hns.Network {
		f, _ := hns.NewFakeHCN("nat")
		return hns.NewHCN(f)
	}, hns.HNSEndpoint{VirtualNetwork: "nat", IPAddress: net.IPv4(172, 20, 0, 5), PrefixLength: 20})
}

// Every member that both forms have is the same after it went through the
// service.
func TestHCNEndpoint(t *testing.T) {
	f, networks := hns.NewFakeHCN("lab")
	n := hns.NewHCN(f)
	want := hns.HNSEndpoint{
		Id: epID, Name: "ep1", VirtualNetwork: networks[0], VirtualNetworkName: "lab",
		Policies: []json.RawMessage{
			json.RawMessage(`{"MaximumOutgoingBandwidthInBytes":1000,"Type":"QOS"}`),
			hns.NewPolicy(hns.PortPolicy{Type: "NAT", Protocol: "UDP", InternalPort: 53, ExternalPort: 5353, ExternalIP: "0.0.0.0"}),
		},
		MacAddress: "00-15-5D-52-C0-01", IPAddress: net.ParseIP("172.20.0.5"), PrefixLength: 20,
		DNSSuffix: "lab.local,example.org", DNSServerList: "172.20.0.1,8.8.8.8", GatewayAddress: "172.20.0.1",
		DisableICC: true, IsRemoteEndpoint: true, EncapOverhead: 50,
		IPConfigs: []hns.IPConfig{{IPAddress: net.ParseIP("fd00::5"), PrefixLength: 64}},
		Routes:    []hns.Route{{NextHop: "172.20.0.9", DestinationPrefix: "10.0.0.0/8", Metric: 5}},
	}
	in := want.Clone()
	in.Id, in.MacAddress = "{"+strings.ToUpper(epID)+"}", "00:15:5d:52:c0:01"
	made, err := n.CreateEndpoint(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := n.Endpoint(t.Context(), epID)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []*hns.HNSEndpoint{made, got} {
		if !reflect.DeepEqual(*e, want) {
			t.Errorf("got %+v, want %+v", *e, want)
		}
	}
	for _, s := range []string{
		`"IpConfigurations":[{"IpAddress":"172.20.0.5","PrefixLength":20},{"IpAddress":"fd00::5","PrefixLength":64}]`,
		`"Routes":[{"DestinationPrefix":"0.0.0.0/0","NextHop":"172.20.0.1"},{"DestinationPrefix":"10.0.0.0/8","Metric":5,"NextHop":"172.20.0.9"}]`,
		`"Dns":{"Domain":"lab.local","Search":["lab.local","example.org"],"ServerList":["172.20.0.1","8.8.8.8"]}`,
		`{"Settings":{"ExternalPort":5353,"InternalPort":53,"Protocol":17},"Type":"PortMapping"}`,
		`{"Settings":{"Overhead":50},"Type":"EncapOverhead"}`,
		`"Flags":3`, `"SchemaVersion":{"Major":2,"Minor":0}`, `"HostComputeNetwork":"` + networks[0] + `"`,
	} {
		if got := f.Settings(epID); !strings.Contains(got, s) {
			t.Errorf("got %s, want %s in it", got, s)
		}
	}
}

func TestHCNRefused(t *testing.T) {
	f, networks := hns.NewFakeHCN("nat", "two", "two")
	n := hns.NewHCN(f)
	port := hns.PortPolicy{Type: "NAT", Protocol: "TCP", InternalPort: 80, ExternalPort: 8080}
	for _, tt := range []struct {
		name string
		e    hns.HNSEndpoint
		want error // nil is any
	}{
		{"port on the loopback", hns.HNSEndpoint{Policies: []json.RawMessage{hns.NewPolicy(port)}}, hns.ErrNotSupported},
		{"host loopback", hns.HNSEndpoint{Policies: []json.RawMessage{hns.NewPolicy(hns.PolicyHostLoopback)}}, hns.ErrNotSupported},
		{"unknown policy", hns.HNSEndpoint{Policies: []json.RawMessage{[]byte(`{"Type":"Firewall"}`)}}, hns.ErrNotSupported},
		{"policy without type", hns.HNSEndpoint{Policies: []json.RawMessage{[]byte(`{}`)}}, nil},
		{"no object", hns.HNSEndpoint{Policies: []json.RawMessage{[]byte(`7`)}}, nil},
		{"internal DNS", hns.HNSEndpoint{EnableInternalDNS: true}, hns.ErrNotSupported},
		{"low metric", hns.HNSEndpoint{EnableLowMetric: true}, hns.ErrNotSupported},
		{"prefix alone", hns.HNSEndpoint{PrefixLength: 8}, hns.ErrNotSupported},
		{"long prefix", hns.HNSEndpoint{IPAddress: net.IPv4(1, 2, 3, 4), PrefixLength: 33}, nil},
		{"bad address", hns.HNSEndpoint{IPAddress: net.IP{1}}, nil},
		{"bad gateway", hns.HNSEndpoint{GatewayAddress: "x"}, nil},
		{"bad MAC address", hns.HNSEndpoint{MacAddress: "x"}, nil},
		{"bad id", hns.HNSEndpoint{Id: "x"}, nil},
		{"no such network", hns.HNSEndpoint{VirtualNetwork: "three"}, hns.ErrNotFound},
		{"no such network id", hns.HNSEndpoint{VirtualNetwork: epID}, hns.ErrNotFound},
		{"another name", hns.HNSEndpoint{VirtualNetwork: networks[0], VirtualNetworkName: "two"}, hns.ErrNotFound},
		{"two names", hns.HNSEndpoint{VirtualNetwork: "nat", VirtualNetworkName: "two"}, hns.ErrNotSupported},
		{"name of two", hns.HNSEndpoint{VirtualNetwork: "two"}, nil},
		{"bridge of ours", hns.HNSEndpoint{VirtualNetwork: hns.Bridge}, hns.ErrNotSupported},
		{"CNI", hns.HNSEndpoint{VirtualNetwork: "cni:x"}, hns.ErrNotSupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, err := n.CreateEndpoint(t.Context(), &tt.e)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %+v, %v, want an error that is %v", e, err, tt.want)
			}
		})
	}
	if f.Count() != 0 {
		t.Errorf("%d objects are left", f.Count())
	}
}

// Who names no network gets the NAT network or, on a Windows client without
// containers, the Default Switch.
func TestHCNDefaultNetwork(t *testing.T) {
	f, networks := hns.NewFakeHCN("Default Switch", "NAT")
	n := hns.NewHCN(f)
	for _, tt := range []struct{ network, want string }{
		{"", networks[1]}, {"nat", networks[1]}, {"default switch", networks[0]}, {"bridge:Default Switch", networks[0]}, {strings.ToUpper(networks[0]), networks[0]},
	} {
		if e, err := n.CreateEndpoint(t.Context(), &hns.HNSEndpoint{VirtualNetwork: tt.network}); err != nil || e.VirtualNetwork != tt.want {
			t.Errorf("network %q: got %+v, %v, want %s", tt.network, e, err, tt.want)
		}
	}
	f.Rename(networks[1], "other")
	if e, err := n.CreateEndpoint(t.Context(), &hns.HNSEndpoint{VirtualNetwork: "nat"}); err != nil || e.VirtualNetworkName != "Default Switch" {
		t.Errorf("got %+v, %v, want the default switch", e, err)
	}
}

func TestHCNErrors(t *testing.T) {
	for code, want := range map[uint32]error{
		0x80070490: hns.ErrNotFound, 0x803b0001: hns.ErrNotFound, 0x803b0002: fs.ErrNotExist,
		0x800700b7: hns.ErrAlreadyExists, 0x803b0014: hns.ErrAlreadyExists, 0x803b002b: fs.ErrExist,
		0x80070005: fs.ErrPermission, 0x80004001: hns.ErrNotSupported, 0x803b0015: errors.ErrUnsupported,
	} {
		err := hns.HCNError(code)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), "broken") {
			t.Errorf("code %#x: got %v, want %v and the text of the record", code, err, want)
		}
	}
	for _, s := range []error{hns.ErrNotFound, hns.ErrAlreadyExists, hns.ErrNotSupported} {
		if errors.Is(hns.HCNError(0x80004005), s) {
			t.Errorf("an unknown code is %v", s)
		}
	}
}

// What fails changes nothing: each call of each method fails once.
func TestHCNFailures(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		do   func(ctx context.Context, n hns.Network, ns, e string) error
	}{
		{"CreateEndpoint", func(ctx context.Context, n hns.Network, ns, _ string) error {
			_, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{Namespace: &hns.Namespace{ID: ns}})
			return err
		}},
		{"CreateNamespace", func(ctx context.Context, n hns.Network, _, _ string) error {
			_, err := n.CreateNamespace(ctx)
			return err
		}},
		{"RemoveEndpoint", func(ctx context.Context, n hns.Network, _, e string) error { return n.RemoveEndpoint(ctx, e) }},
		{"RemoveNamespace", func(ctx context.Context, n hns.Network, ns, _ string) error { return n.RemoveNamespace(ctx, ns) }},
		{"RemoveFromNamespace", func(ctx context.Context, n hns.Network, ns, e string) error {
			return n.RemoveFromNamespace(ctx, ns, e)
		}},
		{"Endpoint", func(ctx context.Context, n hns.Network, _, _ string) error {
			_, err := n.Endpoint(ctx, "mine")
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for at := 1; ; at++ {
				f, _ := hns.NewFakeHCN("nat")
				n := hns.NewHCN(f)
				ns, err := n.CreateNamespace(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				e, err := n.CreateEndpoint(t.Context(), &hns.HNSEndpoint{Name: "mine", Namespace: &hns.Namespace{ID: ns.Id}})
				if err != nil {
					t.Fatal(err)
				}
				calls := 0
				f.Before = func(string, string, string) error {
					if calls++; calls == at {
						return broken
					}
					return nil
				}
				err = tt.do(t.Context(), n, ns.Id, e.Id)
				f.Before = nil
				if calls < at {
					if err != nil || at == 1 {
						t.Errorf("got %v after %d calls", err, calls)
					}
					return
				}
				if !errors.Is(err, broken) {
					t.Errorf("call %d: got error %v, want %v", at, err, broken)
				}
				all, err := hns.NamespaceEndpoints(t.Context(), n, ns.Id)
				if err != nil || len(all) != 1 || all[0].Id != e.Id || f.Count() != 2 {
					t.Errorf("after call %d failed: got %v, %v and %d objects, want what there was", at, all, err, f.Count())
				}
			}
		})
	}
}
