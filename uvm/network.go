package uvm

import (
	"context"

	"github.com/byrevm/byre/hns"
)

// NetworkEndpoints are endpoints of the host in a namespace of the host.
type NetworkEndpoints struct {
	// EndpointIDs are the endpoints.
	EndpointIDs []string
	// Namespace is the namespace that they belong to.
	Namespace string
}

// Release takes the endpoints out of the namespace and removes the namespace.
// It is not implemented yet: the error wraps [hcs.ErrNotSupported].
func (endpoints *NetworkEndpoints) Release(ctx context.Context) error {
	return notYet("releasing network endpoints")
}

// AddNetNS adds the network namespace id to the guest. It is not implemented
// yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) AddNetNS(ctx context.Context, id string) error { return notYet("AddNetNS") }

// RemoveNetNS removes the network namespace id, with the endpoints in it, from
// the guest. It is not implemented yet: the error wraps
// [hcs.ErrNotSupported].
func (vm *UtilityVM) RemoveNetNS(ctx context.Context, id string) error { return notYet("RemoveNetNS") }

// AddEndpointsToNS adds endpoints to the network namespace id of the guest.
// It is not implemented yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) AddEndpointsToNS(ctx context.Context, id string, endpoints []*hns.HNSEndpoint) error {
	return notYet("AddEndpointsToNS")
}

// RemoveEndpointsFromNS takes endpoints out of the network namespace id of the
// guest. It is not implemented yet: the error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) RemoveEndpointsFromNS(ctx context.Context, id string, endpoints []*hns.HNSEndpoint) error {
	return notYet("RemoveEndpointsFromNS")
}
