package hnstest

import (
	"context"
	"fmt"
	"slices"

	"github.com/byrevm/byre/hns"
)

// CreateNamespace implements hns.Network.
func (n *Network) CreateNamespace(ctx context.Context) (*hns.HostComputeNamespace, error) {
	if err := n.begin(ctx, "CreateNamespace", ""); err != nil {
		return nil, err
	}
	id, err := newID()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ns := &hns.HostComputeNamespace{
		Id:            id,
		Type:          hns.NamespaceGuest,
		SchemaVersion: hns.SchemaVersion{Major: 2},
	}
	n.namespaces[hns.CanonicalID(id)] = ns
	return ns.Clone(), nil
}

// Namespace implements hns.Network.
func (n *Network) Namespace(ctx context.Context, id string) (*hns.HostComputeNamespace, error) {
	if err := n.begin(ctx, "Namespace", id); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ns, err := n.namespace(id)
	if err != nil {
		return nil, err
	}
	return ns.Clone(), nil
}

// RemoveNamespace implements hns.Network.
func (n *Network) RemoveNamespace(ctx context.Context, id string) error {
	if err := n.begin(ctx, "RemoveNamespace", id); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.namespace(id); err != nil {
		return err
	}
	for _, e := range n.endpoints {
		if e.Namespace != nil && hns.SameID(e.Namespace.ID, id) {
			e.Namespace = nil
		}
	}
	delete(n.namespaces, hns.CanonicalID(id))
	return nil
}

// AddToNamespace implements hns.Network.
func (n *Network) AddToNamespace(ctx context.Context, namespaceID, endpointID string) error {
	if err := n.begin(ctx, "AddToNamespace", endpointID); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ns, err := n.namespace(namespaceID)
	if err != nil {
		return err
	}
	e, err := n.endpoint(endpointID)
	if err != nil {
		return err
	}
	if e.Namespace != nil && !hns.SameID(e.Namespace.ID, ns.Id) {
		return fmt.Errorf("hnstest: endpoint %s is in namespace %s: %w", e.Id, e.Namespace.ID, hns.ErrAlreadyExists)
	}
	put(ns, e)
	return nil
}

// RemoveFromNamespace implements hns.Network.
func (n *Network) RemoveFromNamespace(ctx context.Context, namespaceID, endpointID string) error {
	if err := n.begin(ctx, "RemoveFromNamespace", endpointID); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ns, err := n.namespace(namespaceID)
	if err != nil {
		return err
	}
	e, err := n.endpoint(endpointID)
	if err != nil {
		return err
	}
	if e.Namespace == nil || !hns.SameID(e.Namespace.ID, ns.Id) {
		return fmt.Errorf("hnstest: endpoint %s in namespace %s: %w", e.Id, ns.Id, hns.ErrNotFound)
	}
	take(ns, e)
	return nil
}

// put puts e into ns, where it may be already.
func put(ns *hns.HostComputeNamespace, e *hns.HNSEndpoint) {
	e.Namespace = &hns.Namespace{ID: ns.Id}
	if !slices.ContainsFunc(ns.Resources, func(r hns.NamespaceResource) bool { return isEndpoint(r, e.Id) }) {
		ns.Resources = append(ns.Resources, hns.NewEndpointResource(e.Id))
	}
}

// take takes e out of ns.
func take(ns *hns.HostComputeNamespace, e *hns.HNSEndpoint) {
	e.Namespace = nil
	ns.Resources = slices.DeleteFunc(ns.Resources, func(r hns.NamespaceResource) bool { return isEndpoint(r, e.Id) })
}

// isEndpoint tells whether r stands for the endpoint id.
func isEndpoint(r hns.NamespaceResource, id string) bool {
	one := hns.HostComputeNamespace{Resources: []hns.NamespaceResource{r}}
	ids, err := one.EndpointIDs()
	return err == nil && len(ids) == 1 && hns.SameID(ids[0], id)
}
