package hns

import (
	"errors"
	"strings"
	"testing"
)

func TestAbsentNetwork(t *testing.T) {
	const epID, nsID = "aaaaaaaa-0000-4000-8000-000000000001", "99999999-0000-4000-8000-000000000001"
	var n Network = absent{}
	ctx := t.Context()
	first := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		"CreateNamespace":     first(n.CreateNamespace(ctx)),
		"Namespace":           first(n.Namespace(ctx, nsID)),
		"RemoveNamespace":     n.RemoveNamespace(ctx, nsID),
		"CreateEndpoint":      first(n.CreateEndpoint(ctx, &HNSEndpoint{})),
		"Endpoint":            first(n.Endpoint(ctx, epID)),
		"Endpoints":           first(n.Endpoints(ctx)),
		"RemoveEndpoint":      n.RemoveEndpoint(ctx, epID),
		"AddToNamespace":      n.AddToNamespace(ctx, nsID, epID),
		"RemoveFromNamespace": n.RemoveFromNamespace(ctx, nsID, epID),
		"NamespaceEndpoints":  first(NamespaceEndpoints(ctx, n, nsID)),
	} {
		if !errors.Is(err, ErrNotSupported) || !strings.Contains(err.Error(), "has no networks") {
			t.Errorf("%s: got %v, want %v", name, err, ErrNotSupported)
		}
	}
}
