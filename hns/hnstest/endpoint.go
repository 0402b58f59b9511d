package hnstest

import (
	"context"
	"fmt"
	"slices"

	"github.com/byrevm/byre/hns"
)

// CreateEndpoint implements hns.Network.
func (n *Network) CreateEndpoint(ctx context.Context, e *hns.HNSEndpoint) (*hns.HNSEndpoint, error) {
	if err := n.begin(ctx, "CreateEndpoint", e.Id); err != nil {
		return nil, err
	}
	made := e.Clone()
	made.Namespace = nil
	if made.Id == "" {
		id, err := newID()
		if err != nil {
			return nil, err
		}
		made.Id = id
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	key := hns.CanonicalID(made.Id)
	if _, ok := n.endpoints[key]; ok {
		return nil, fmt.Errorf("hnstest: endpoint %s: %w", made.Id, hns.ErrAlreadyExists)
	}
	if e.Namespace != nil {
		ns, err := n.namespace(e.Namespace.ID)
		if err != nil {
			return nil, err
		}
		put(ns, made)
	}
	if made.MacAddress == "" {
		n.nics++
		made.MacAddress = fmt.Sprintf("00-15-5D-%02X-%02X-%02X", byte(n.nics>>16), byte(n.nics>>8), byte(n.nics))
	}
	n.endpoints[key] = made
	n.order = append(n.order, key)
	return made.Clone(), nil
}

// Endpoint implements hns.Network.
func (n *Network) Endpoint(ctx context.Context, idOrName string) (*hns.HNSEndpoint, error) {
	if err := n.begin(ctx, "Endpoint", idOrName); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	e, err := n.endpoint(idOrName)
	if err == nil {
		return e.Clone(), nil
	}
	var named *hns.HNSEndpoint
	for _, e := range n.endpoints {
		if e.Name == "" || e.Name != idOrName {
			continue
		}
		if named != nil {
			return nil, fmt.Errorf("hnstest: more than one endpoint has the name %s", idOrName)
		}
		named = e
	}
	if named == nil {
		return nil, err
	}
	return named.Clone(), nil
}

// Endpoints implements hns.Network. The oldest endpoint is the first.
func (n *Network) Endpoints(ctx context.Context) ([]*hns.HNSEndpoint, error) {
	if err := n.begin(ctx, "Endpoints", ""); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*hns.HNSEndpoint, len(n.order))
	for i, k := range n.order {
		all[i] = n.endpoints[k].Clone()
	}
	return all, nil
}

// RemoveEndpoint implements hns.Network.
func (n *Network) RemoveEndpoint(ctx context.Context, id string) error {
	if err := n.begin(ctx, "RemoveEndpoint", id); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	e, err := n.endpoint(id)
	if err != nil {
		return err
	}
	if e.Namespace != nil {
		if ns, err := n.namespace(e.Namespace.ID); err == nil {
			take(ns, e)
		}
	}
	key := hns.CanonicalID(id)
	delete(n.endpoints, key)
	n.order = slices.DeleteFunc(n.order, func(k string) bool { return k == key })
	return nil
}
