package hns

import (
	"context"
	"fmt"
	"io"
)

// Host returns the network of this host. What is made in it stays until it is
// removed, whoever made it, or until the host restarts. On a host without a
// network each method fails with an error that wraps [ErrNotSupported].
func Host() Network { return host() }

// A Session is the network of this host for somebody who leaves nothing
// behind: what is made in it is removed when it is closed, or, after its
// process has ended in any way, by the next change that anybody makes to the
// network. Everything else in the network can be seen and used, too.
type Session interface {
	Network
	io.Closer
}

// NewSession begins a session. The caller closes it.
func NewSession() (Session, error) { return newSession() }

// absent is the network of a host that has none.
type absent struct{}

func (absent) err(doing string) error {
	return fmt.Errorf("hns: %s: this host has no networks: %w", doing, ErrNotSupported)
}

func (a absent) CreateNamespace(context.Context) (*HostComputeNamespace, error) {
	return nil, a.err("creating a namespace")
}

func (a absent) Namespace(_ context.Context, id string) (*HostComputeNamespace, error) {
	return nil, a.err("looking up namespace " + id)
}

func (a absent) RemoveNamespace(_ context.Context, id string) error {
	return a.err("removing namespace " + id)
}

func (a absent) CreateEndpoint(_ context.Context, e *HNSEndpoint) (*HNSEndpoint, error) {
	return nil, a.err("creating endpoint " + e.Id)
}

func (a absent) Endpoint(_ context.Context, idOrName string) (*HNSEndpoint, error) {
	return nil, a.err("looking up endpoint " + idOrName)
}

func (a absent) Endpoints(context.Context) ([]*HNSEndpoint, error) {
	return nil, a.err("listing endpoints")
}

func (a absent) RemoveEndpoint(_ context.Context, id string) error {
	return a.err("removing endpoint " + id)
}

func (a absent) AddToNamespace(_ context.Context, namespaceID, endpointID string) error {
	return a.err("adding endpoint " + endpointID + " to namespace " + namespaceID)
}

func (a absent) RemoveFromNamespace(_ context.Context, namespaceID, endpointID string) error {
	return a.err("removing endpoint " + endpointID + " from namespace " + namespaceID)
}
