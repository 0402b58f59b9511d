package hnstest_test

import (
	"errors"
	"net"
	"testing"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/hns/hnstest"
)

func TestInMemory(t *testing.T) {
	hnstest.TestNetwork(t, func(*testing.T) hns.Network { return hnstest.New() }, hns.HNSEndpoint{
		VirtualNetwork: "nat", IPAddress: net.IPv4(172, 20, 0, 5), PrefixLength: 20,
	})
}

func TestFailWith(t *testing.T) {
	n, ctx := hnstest.New(), t.Context()
	ns, err := n.CreateNamespace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	var op, id string
	n.FailWith(func(o, i string) error { op, id = o, i; return broken })
	first := func(_ any, err error) error { return err }
	for _, tt := range []struct {
		op, id string
		call   func() error
	}{
		{"CreateNamespace", "", func() error { return first(n.CreateNamespace(ctx)) }},
		{"Namespace", ns.Id, func() error { return first(n.Namespace(ctx, ns.Id)) }},
		{"RemoveNamespace", ns.Id, func() error { return n.RemoveNamespace(ctx, ns.Id) }},
		{"CreateEndpoint", "x", func() error { return first(n.CreateEndpoint(ctx, &hns.HNSEndpoint{Id: "x"})) }},
		{"Endpoint", e.Id, func() error { return first(n.Endpoint(ctx, e.Id)) }},
		{"Endpoints", "", func() error { return first(n.Endpoints(ctx)) }},
		{"RemoveEndpoint", e.Id, func() error { return n.RemoveEndpoint(ctx, e.Id) }},
		{"AddToNamespace", e.Id, func() error { return n.AddToNamespace(ctx, ns.Id, e.Id) }},
		{"RemoveFromNamespace", e.Id, func() error { return n.RemoveFromNamespace(ctx, ns.Id, e.Id) }},
	} {
		if err := tt.call(); !errors.Is(err, broken) {
			t.Errorf("%s: got error %v, want %v", tt.op, err, broken)
		}
		if op != tt.op || id != tt.id {
			t.Errorf("got %s %q, want %s %q", op, id, tt.op, tt.id)
		}
	}
	n.FailWith(nil)
	if all, err := n.Endpoints(ctx); err != nil || len(all) != 1 || all[0].Namespace != nil {
		t.Errorf("got %v, %v, want the endpoint as it was", all, err)
	}
	if got := n.Namespaces(); len(got) != 1 || got[0].Id != ns.Id {
		t.Errorf("got %v, want the namespace as it was", got)
	}
}

// A recorded namespace names an endpoint that does not exist, or does not
// exist yet.
func TestSetNamespace(t *testing.T) {
	n, ctx := hnstest.New(), t.Context()
	const id, ep = "99999999-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000001"
	n.SetNamespace(&hns.HostComputeNamespace{
		Id: id, NamespaceId: 7, Type: hns.NamespaceGuest,
		Resources: []hns.NamespaceResource{hns.NewEndpointResource(ep)},
	})
	ns, err := n.Namespace(ctx, id)
	if err != nil || ns.NamespaceId != 7 {
		t.Fatalf("got %+v, %v", ns, err)
	}
	if _, err := hns.NamespaceEndpoints(ctx, n, id); !errors.Is(err, hns.ErrNotFound) {
		t.Errorf("got error %v, want %v", err, hns.ErrNotFound)
	}
	if _, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{Id: ep, Namespace: &hns.Namespace{ID: id}}); err != nil {
		t.Fatal(err)
	}
	got, err := hns.NamespaceEndpoints(ctx, n, id)
	if err != nil || len(got) != 1 || got[0].Id != ep {
		t.Errorf("got %v, %v, want endpoint %s once", got, err, ep)
	}
}
