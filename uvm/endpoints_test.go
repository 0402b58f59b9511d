package uvm

import (
	"errors"
	"testing"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/hns/hnstest"
)

func TestReleaseEndpoints(t *testing.T) {
	ctx := t.Context()
	n := hnstest.New()
	ns, err := n.CreateNamespace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e := &NetworkEndpoints{Namespace: ns.Id}
	for range 2 {
		ep, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.AddToNamespace(ctx, ns.Id, ep.Id); err != nil {
			t.Fatal(err)
		}
		e.EndpointIDs = append(e.EndpointIDs, ep.Id)
	}
	last := e.EndpointIDs[1]
	e.EndpointIDs = append([]string{"not there"}, e.EndpointIDs...)
	n.FailWith(func(op, id string) error {
		if op == "RemoveFromNamespace" && id == last {
			return errBoom
		}
		return nil
	})
	if err := e.release(ctx, n); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	n.FailWith(nil)
	if len(e.EndpointIDs) != 1 || e.EndpointIDs[0] != last {
		t.Errorf("left to do: %v", e.EndpointIDs)
	}
	for range 2 {
		if err := e.release(ctx, n); err != nil {
			t.Error(err)
		}
	}
	if _, err := n.Namespace(ctx, ns.Id); !errors.Is(err, hns.ErrNotFound) {
		t.Error(err)
	}
	if err := (&NetworkEndpoints{EndpointIDs: []string{"x"}, Namespace: "y"}).Release(ctx); err != nil && !errors.Is(err, hns.ErrNotSupported) {
		t.Error(err)
	}
}
