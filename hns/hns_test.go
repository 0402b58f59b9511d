package hns_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/byrevm/byre/hns"
)

const (
	epID = "aaaaaaaa-0000-4000-8000-000000000001"
	nsID = "99999999-0000-4000-8000-000000000001"
)

func TestJSON(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    any
		want string
	}{
		{"empty endpoint", hns.HNSEndpoint{}, `{}`},
		{"endpoint", full(), `{"ID":"` + epID + `","Name":"ep1","VirtualNetwork":"v","VirtualNetworkName":"n",` +
			`"Policies":[{"Type":"QOS"}],"MacAddress":"00-15-5D-52-C0-01","IPAddress":"172.20.0.5",` +
			`"DNSSuffix":"lab.local","DNSServerList":"172.20.0.1,8.8.8.8","GatewayAddress":"172.20.0.1",` +
			`"EnableInternalDNS":true,"DisableICC":true,"PrefixLength":20,"IsRemoteEndpoint":true,"EnableLowMetric":true,` +
			`"Namespace":{"ID":"` + nsID + `","IsDefault":true,"ResourceList":[{"Type":"Endpoint","Data":{"Id":"` + epID + `"}}]},` +
			`"EncapOverhead":50}`},
		{"empty namespace of an endpoint", hns.Namespace{}, `{"ID":""}`},
		{"empty namespace", hns.HostComputeNamespace{}, `{"SchemaVersion":{"Major":0,"Minor":0}}`},
		{"namespace", hns.HostComputeNamespace{
			Id: nsID, NamespaceId: 7, Type: hns.NamespaceGuest,
			Resources:     []hns.NamespaceResource{hns.NewEndpointResource(epID)},
			SchemaVersion: hns.SchemaVersion{Major: 2},
		}, `{"ID":"` + nsID + `","NamespaceId":7,"Type":"Guest","Resources":[{"Type":"Endpoint","Data":{"Id":"` + epID + `"}}],` +
			`"SchemaVersion":{"Major":2,"Minor":0}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := json.Marshal(tt.v)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(b); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			back := reflect.New(reflect.TypeOf(tt.v))
			if err := json.Unmarshal(b, back.Interface()); err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(back.Interface())
			if err != nil {
				t.Fatal(err)
			}
			if got := string(again); got != tt.want {
				t.Errorf("second time: got %v, want %v", got, tt.want)
			}
		})
	}
}

func full() hns.HNSEndpoint {
	return hns.HNSEndpoint{
		Id: epID, Name: "ep1", VirtualNetwork: "v", VirtualNetworkName: "n",
		Policies:   []json.RawMessage{json.RawMessage(`{"Type":"QOS"}`)},
		MacAddress: "00-15-5D-52-C0-01", IPAddress: net.IPv4(172, 20, 0, 5),
		DNSSuffix: "lab.local", DNSServerList: "172.20.0.1,8.8.8.8", GatewayAddress: "172.20.0.1",
		EnableInternalDNS: true, DisableICC: true, PrefixLength: 20, IsRemoteEndpoint: true, EnableLowMetric: true,
		Namespace: &hns.Namespace{
			ID: nsID, IsDefault: true,
			ResourceList: []hns.NamespaceResource{hns.NewEndpointResource(epID)},
		},
		EncapOverhead: 50,
	}
}

func TestCloneSharesNothing(t *testing.T) {
	e, want := full(), full()
	c := e.Clone()
	if !reflect.DeepEqual(*c, want) {
		t.Fatalf("got %+v, want %+v", *c, want)
	}
	c.Policies[0][0] = 'x'
	c.IPAddress[15] = 9
	c.Namespace.ID = "x"
	c.Namespace.ResourceList[0].Data[0] = 'x'
	c.Namespace.ResourceList[0].Type = "x"
	if !reflect.DeepEqual(e, want) {
		t.Errorf("a change of the copy changed the endpoint: %+v", e)
	}
	if c := (&hns.HNSEndpoint{}).Clone(); !reflect.DeepEqual(*c, hns.HNSEndpoint{}) {
		t.Errorf("got %+v, want the zero endpoint", *c)
	}

	n := hns.HostComputeNamespace{Resources: []hns.NamespaceResource{hns.NewEndpointResource(epID)}}
	n.Clone().Resources[0].Data[0] = 'x'
	if ids, err := n.EndpointIDs(); err != nil || !slices.Equal(ids, []string{epID}) {
		t.Errorf("got %v, %v, want [%v]", ids, err, epID)
	}
}

func TestEndpointIDs(t *testing.T) {
	for _, tt := range []struct {
		name, resources string
		want            []string
		fails           bool
	}{
		{"none", `[]`, nil, false},
		{"both spellings, in order", `[{"Type":"Endpoint","Data":{"Id":"b"}},{"Type":"Endpoint","Data":{"ID":"a"}}]`, []string{"b", "a"}, false},
		{"other kinds are skipped", `[{"Type":"Container","Data":{"Id":"c"}},{"Type":"Endpoint","Data":{"Id":"a"}}]`, []string{"a"}, false},
		{"no id", `[{"Type":"Endpoint","Data":{}}]`, nil, true},
		{"not an object", `[{"Type":"Endpoint","Data":"a"}]`, nil, true},
		{"no data", `[{"Type":"Endpoint"}]`, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n hns.HostComputeNamespace
			if err := json.Unmarshal([]byte(tt.resources), &n.Resources); err != nil {
				t.Fatal(err)
			}
			got, err := n.EndpointIDs()
			if !slices.Equal(got, tt.want) || (err != nil) != tt.fails {
				t.Errorf("got %v, %v, want %v and an error: %v", got, err, tt.want, tt.fails)
			}
		})
	}
}

func TestSameID(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{epID, strings.ToUpper(epID), true},
		{"{" + epID + "}", epID, true},
		{epID, nsID, false},
		{"", "", true},
		{"{", "", false},
		{"{}", "", true},
	} {
		if got := hns.SameID(tt.a, tt.b); got != tt.want {
			t.Errorf("SameID(%q, %q): got %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestSentinels(t *testing.T) {
	for _, tt := range []struct{ err, also error }{
		{hns.ErrNotFound, fs.ErrNotExist},
		{hns.ErrAlreadyExists, fs.ErrExist},
		{hns.ErrNotSupported, errors.ErrUnsupported},
	} {
		for _, other := range []error{hns.ErrNotFound, hns.ErrAlreadyExists, hns.ErrNotSupported} {
			if got, want := errors.Is(tt.err, other), tt.err == other; got != want {
				t.Errorf("%v is %v: got %v, want %v", tt.err, other, got, want)
			}
		}
		if !errors.Is(tt.err, tt.also) {
			t.Errorf("%v is not %v", tt.err, tt.also)
		}
	}
}
