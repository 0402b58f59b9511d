//go:build linux

package network

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/byrevm/byre/hcsschema"
)

// Errors of namespaces.
var (
	ErrNoNamespace = errors.New("no such network namespace")
	ErrAdapter     = errors.New("adapter is in the namespace already")
)

// Limits of what a host can make the agent remember.
const (
	maxNamespaces = 1024
	maxAdapters   = 64
)

// Namespaces are the network namespaces that the host has named, with their
// adapters. Ids are compared without regard to case. The zero value is empty
// and ready; its methods are safe for concurrent use.
type Namespaces struct {
	mu  sync.Mutex
	all map[string][]hcsschema.LCOWNetworkAdapter
}

// Add adds an adapter to its namespace, which is made if it is new.
func (n *Namespaces) Add(a hcsschema.LCOWNetworkAdapter) error {
	if err := check(a); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	id := strings.ToLower(a.NamespaceID)
	list := n.all[id]
	if slices.ContainsFunc(list, sameAs(a)) {
		return fmt.Errorf("adapter %s, namespace %s: %w", a.ID, id, ErrAdapter)
	}
	if len(list) == maxAdapters || list == nil && len(n.all) == maxNamespaces {
		return fmt.Errorf("adapter %s, namespace %s: too many of them", a.ID, id)
	}
	if n.all == nil {
		n.all = make(map[string][]hcsschema.LCOWNetworkAdapter)
	}
	n.all[id] = append(list, a)
	return nil
}

// Remove removes an adapter; the namespace goes with its last one. An adapter
// that is not there is no error.
func (n *Namespaces) Remove(a hcsschema.LCOWNetworkAdapter) error {
	if err := check(a); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	id := strings.ToLower(a.NamespaceID)
	list := slices.DeleteFunc(n.all[id], sameAs(a))
	if len(list) == 0 {
		delete(n.all, id)
	} else {
		n.all[id] = list
	}
	return nil
}

func sameAs(a hcsschema.LCOWNetworkAdapter) func(hcsschema.LCOWNetworkAdapter) bool {
	return func(b hcsschema.LCOWNetworkAdapter) bool { return strings.EqualFold(a.ID, b.ID) }
}

// check holds ids and lists against their grammar: they end up in files.
func check(a hcsschema.LCOWNetworkAdapter) error {
	for _, s := range []struct{ name, value string }{
		{"namespace id", a.NamespaceID}, {"adapter id", a.ID},
		{"DNS suffix", a.DNSSuffix}, {"DNS server list", a.DNSServerList},
	} {
		if len(s.value) > 1024 || strings.ContainsFunc(s.value, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:,{}% ", r))
		}) {
			return fmt.Errorf("malformed %s %.80q", s.name, s.value)
		}
	}
	if a.NamespaceID == "" || a.ID == "" {
		return errors.New("an adapter needs an id and a namespace")
	}
	return nil
}

// DNS returns how names are resolved in a namespace: what all its adapters
// say, in their order.
func (n *Namespaces) DNS(id string) (DNS, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list, ok := n.all[strings.ToLower(id)]
	if !ok {
		return DNS{}, fmt.Errorf("%w: %.80q", ErrNoNamespace, id)
	}
	var d DNS
	for _, a := range list {
		d.Search = appendNew(d.Search, a.DNSSuffix)
		d.Servers = appendNew(d.Servers, a.DNSServerList)
	}
	return d, nil
}

func appendNew(list []string, commas string) []string {
	for s := range strings.SplitSeq(commas, ",") {
		if s = strings.TrimSpace(s); s != "" && !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}
