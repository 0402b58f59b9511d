package hns

import (
	"context"
	"fmt"
	"strings"
)

// A Network is a host's endpoints and namespaces. Its methods are safe for
// concurrent use. What they return belongs to the caller. On error nothing
// has changed.
//
// All of them fail with an error that wraps [ErrNotFound] when an id names
// nothing, and [ErrNotSupported] when the network cannot do it.
type Network interface {
	// CreateNamespace makes an empty namespace.
	CreateNamespace(ctx context.Context) (*HostComputeNamespace, error)

	// Namespace returns the namespace id and what is in it now.
	Namespace(ctx context.Context, id string) (*HostComputeNamespace, error)

	// RemoveNamespace removes the namespace id. Endpoints that are still in
	// it are taken out first and stay. The second call fails with
	// [ErrNotFound].
	RemoveNamespace(ctx context.Context, id string) error

	// CreateEndpoint makes an endpoint on the network that e names, and
	// returns it with what the network has filled in: an id and a MAC
	// address, where e has none, and addresses that the network gives out.
	// It is in the namespace e.Namespace, or in none. It fails with
	// [ErrAlreadyExists] when the id is in use. e is not changed.
	CreateEndpoint(ctx context.Context, e *HNSEndpoint) (*HNSEndpoint, error)

	// Endpoint returns the endpoint with that id or, when there is none,
	// the one with that name. A name that several have is an error.
	Endpoint(ctx context.Context, idOrName string) (*HNSEndpoint, error)

	// Endpoints returns all endpoints.
	Endpoints(ctx context.Context) ([]*HNSEndpoint, error)

	// RemoveEndpoint takes the endpoint id out of its namespace and removes
	// it. The second call fails with [ErrNotFound].
	RemoveEndpoint(ctx context.Context, id string) error

	// AddToNamespace puts an endpoint into a namespace. If it is there
	// already, nothing happens; if it is in another namespace,
	// AddToNamespace fails with [ErrAlreadyExists].
	AddToNamespace(ctx context.Context, namespaceID, endpointID string) error

	// RemoveFromNamespace takes an endpoint out of a namespace; the endpoint
	// stays. It fails with [ErrNotFound] when the endpoint is not in it.
	RemoveFromNamespace(ctx context.Context, namespaceID, endpointID string) error
}

// NamespaceEndpoints returns the endpoints in the namespace id, in the
// namespace's order.
func NamespaceEndpoints(ctx context.Context, n Network, id string) ([]*HNSEndpoint, error) {
	ns, err := n.Namespace(ctx, id)
	if err != nil {
		return nil, err
	}
	ids, err := ns.EndpointIDs()
	if err != nil {
		return nil, err
	}
	endpoints := make([]*HNSEndpoint, 0, len(ids))
	for _, eid := range ids {
		e, err := n.Endpoint(ctx, eid)
		if err != nil {
			return nil, fmt.Errorf("looking up an endpoint of namespace %s: %w", id, err)
		}
		endpoints = append(endpoints, e)
	}
	return endpoints, nil
}

// SameID tells whether a and b are the same id: case does not matter, nor do
// the braces that some programs write around a GUID.
func SameID(a, b string) bool { return CanonicalID(a) == CanonicalID(b) }

// CanonicalID returns the one form of id that [SameID] compares; use it as a
// map key.
func CanonicalID(id string) string {
	if n := len(id); n >= 2 && id[0] == '{' && id[n-1] == '}' {
		id = id[1 : n-1]
	}
	return strings.ToLower(id)
}

// Names of networks, for [HNSEndpoint] VirtualNetwork, on Linux. On Windows
// there are NAT and "bridge:NAME".
const (
	// NAT is there without set-up: in user space, for each endpoint one of its
	// own. The guest reaches what this host reaches.
	NAT = "nat"
	// Bridge is a bridge of byre's own, which is there as long as it has
	// endpoints; "bridge:NAME" is one that is there. It needs root.
	Bridge = "bridge"
	// CNI and a name, "cni:NAME", is what the plugins of the CNI
	// configuration with that name make. It needs root.
	CNI = "cni"
)
