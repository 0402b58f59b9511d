package uvm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
)

// NetworkEndpoints are endpoints in a namespace of this host's network.
type NetworkEndpoints struct {
	// EndpointIDs are the endpoints.
	EndpointIDs []string
	// Namespace is the namespace that they belong to.
	Namespace string
}

// Release takes the endpoints out of the namespace and removes the namespace.
// What does not exist any more is no error. If it fails it can be called
// again and goes on where it failed.
func (endpoints *NetworkEndpoints) Release(ctx context.Context) error {
	return endpoints.release(ctx, hns.Host())
}

func (endpoints *NetworkEndpoints) release(ctx context.Context, n hns.Network) error {
	for len(endpoints.EndpointIDs) > 0 {
		id := endpoints.EndpointIDs[0]
		err := n.RemoveFromNamespace(ctx, endpoints.Namespace, id)
		switch {
		case errors.Is(err, hns.ErrNotFound):
			slog.WarnContext(ctx, "endpoint was not in its namespace", "endpoint", id, "namespace", endpoints.Namespace)
		case err != nil:
			return fmt.Errorf("removing endpoint %s from namespace %s: %w", id, endpoints.Namespace, err)
		}
		endpoints.EndpointIDs = endpoints.EndpointIDs[1:]
	}
	if err := n.RemoveNamespace(ctx, endpoints.Namespace); err != nil && !errors.Is(err, hns.ErrNotFound) {
		return fmt.Errorf("removing namespace %s: %w", endpoints.Namespace, err)
	}
	return nil
}

// moreOf returns the addresses and routes of an endpoint for which the older
// form of an adapter has no member.
func moreOf(e *hns.HNSEndpoint) (configs []hcsschema.LCOWIPConfig, routes []hcsschema.LCOWRoute) {
	for _, c := range e.IPConfigs {
		configs = append(configs, hcsschema.LCOWIPConfig{IPAddress: c.IPAddress.String(), PrefixLength: c.PrefixLength})
	}
	for _, r := range e.Routes {
		routes = append(routes, hcsschema.LCOWRoute{NextHop: r.NextHop, DestinationPrefix: r.DestinationPrefix, Metric: r.Metric})
	}
	return configs, routes
}
