package hnstest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hns"
)

// Network is an hns.Network in memory. It gives endpoints an id and a MAC
// address, takes any VirtualNetwork, and keeps addresses as they are.
type Network struct {
	mu         sync.Mutex
	fail       func(op, id string) error
	nics       uint32
	namespaces map[string]*hns.HostComputeNamespace // by hns.CanonicalID
	endpoints  map[string]*hns.HNSEndpoint          // by hns.CanonicalID
	order      []string                             // keys of endpoints, oldest first
}

var _ hns.Network = (*Network)(nil)

// New returns a network without endpoints and namespaces.
func New() *Network {
	return &Network{
		namespaces: make(map[string]*hns.HostComputeNamespace),
		endpoints:  make(map[string]*hns.HNSEndpoint),
	}
}

// FailWith makes every later call ask f first, with the method's name and the
// id of what it is about (the endpoint, where there are two; "" where there
// is none). When f returns an error, the call fails with it and changes
// nothing. f nil ends that. f may use the network.
func (n *Network) FailWith(f func(op, id string) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = f
}

// SetNamespace makes or replaces a namespace, exactly as ns says. It may name
// endpoints that do not exist.
func (n *Network) SetNamespace(ns *hns.HostComputeNamespace) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.namespaces[hns.CanonicalID(ns.Id)] = ns.Clone()
}

// Namespaces returns all namespaces, in the order of their ids.
func (n *Network) Namespaces() []*hns.HostComputeNamespace {
	n.mu.Lock()
	defer n.mu.Unlock()
	keys := make([]string, 0, len(n.namespaces))
	for k := range n.namespaces {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	all := make([]*hns.HostComputeNamespace, len(keys))
	for i, k := range keys {
		all[i] = n.namespaces[k].Clone()
	}
	return all
}

// begin is the first thing that each method does, without the lock.
func (n *Network) begin(ctx context.Context, op, id string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("hnstest: %s %s: %w", op, id, err)
	}
	n.mu.Lock()
	f := n.fail
	n.mu.Unlock()
	if f == nil {
		return nil
	}
	if err := f(op, id); err != nil {
		return fmt.Errorf("hnstest: %s %s: %w", op, id, err)
	}
	return nil
}

// namespace returns the namespace id; n.mu is held.
func (n *Network) namespace(id string) (*hns.HostComputeNamespace, error) {
	ns, ok := n.namespaces[hns.CanonicalID(id)]
	if !ok {
		return nil, fmt.Errorf("hnstest: namespace %s: %w", id, hns.ErrNotFound)
	}
	return ns, nil
}

// endpoint returns the endpoint id; n.mu is held.
func (n *Network) endpoint(id string) (*hns.HNSEndpoint, error) {
	e, ok := n.endpoints[hns.CanonicalID(id)]
	if !ok {
		return nil, fmt.Errorf("hnstest: endpoint %s: %w", id, hns.ErrNotFound)
	}
	return e, nil
}

func newID() (string, error) {
	g, err := guid.NewV4()
	if err != nil {
		return "", fmt.Errorf("hnstest: making an id: %w", err)
	}
	return g.String(), nil
}
