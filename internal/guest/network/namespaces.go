//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"

	"github.com/byrevm/byre/hcsschema"
)

// Errors of namespaces.
var (
	ErrNoNamespace = errors.New("no such network namespace")
	ErrAdapter     = errors.New("adapter is in the namespace already")

	errRemoved = errors.New("it was removed while it was being added")
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
	all map[string]*namespace
}

// A namespace is there as long as it has an adapter or a container.
type namespace struct {
	space    *space
	adapters []*adapter // in the order of their names; nil is one that has gone
	users    int        // containers
}

// Add adds an adapter to its namespace, which is made if it is new: the
// adapter is moved there and set up. It waits for one that has just been
// plugged in, and again for one that goes meanwhile, until it is removed. On an
// error nothing has changed.
func (n *Namespaces) Add(a hcsschema.LCOWNetworkAdapter, modules Loader) error {
	if err := check(a); err != nil {
		return err
	}
	p, err := newPlan(a)
	if err != nil {
		return fmt.Errorf("adapter %s: %w", a.ID, err)
	}
	ctx, off := context.WithTimeout(context.Background(), adapterWait)
	defer off()
	ns, made, at, err := n.reserve(a, p, off)
	if err != nil {
		return err
	}
	defer close(made.done)
	err = n.attach(ctx, ns, made, at, func() (netlink.Link, error) { return find(ctx, a.ID, p.mac, modules) })
	if err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.drop(a.NamespaceID, ns, at)
		return fmt.Errorf("adapter %s: %w", a.ID, err)
	}
	return nil
}

// attach attaches an adapter as soon as find has found its link. One that goes
// before it is set up is looked for again: the host plugs in again what the
// guest has ejected by mistake.
func (n *Namespaces) attach(ctx context.Context, ns *namespace, made *adapter, at int, find func() (netlink.Link, error)) error {
	for {
		l, err := find()
		if err != nil {
			return err
		}
		n.mu.Lock()
		if ctx.Err() == context.Canceled {
			err = errRemoved
		} else {
			err = ns.space.attach(l, made, at)
		}
		n.mu.Unlock()
		if err == nil || !isGone(l) {
			return err
		}
	}
}

// reserve gives an adapter its place in its namespace.
func (n *Namespaces) reserve(a hcsschema.LCOWNetworkAdapter, p *plan, off context.CancelFunc) (*namespace, *adapter, int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := strings.ToLower(a.NamespaceID)
	if ns := n.all[id]; ns != nil && ns.find(a.ID) >= 0 {
		return nil, nil, 0, fmt.Errorf("adapter %s, namespace %s: %w", a.ID, id, ErrAdapter)
	}
	ns, err := n.get(id)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("adapter %s: %w", a.ID, err)
	}
	made := &adapter{LCOWNetworkAdapter: a, plan: p, off: off, done: make(chan struct{})}
	at := slices.Index(ns.adapters, nil)
	if at < 0 {
		at = len(ns.adapters)
		if at == maxAdapters {
			return nil, nil, 0, fmt.Errorf("adapter %s, namespace %s: too many of them", a.ID, id)
		}
		ns.adapters = append(ns.adapters, nil)
	}
	ns.adapters[at] = made
	return ns, made, at, nil
}

// get returns a namespace, which it makes if it must. n.mu is held.
func (n *Namespaces) get(id string) (*namespace, error) {
	if ns := n.all[id]; ns != nil {
		return ns, nil
	}
	if len(n.all) == maxNamespaces {
		return nil, fmt.Errorf("namespace %s: too many of them", id)
	}
	s, err := newSpace()
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", id, err)
	}
	if n.all == nil {
		n.all = make(map[string]*namespace)
	}
	n.all[id] = &namespace{space: s}
	return n.all[id], nil
}

// drop forgets an adapter. n.mu is held.
func (n *Namespaces) drop(id string, ns *namespace, at int) {
	ns.adapters[at] = nil
	n.end(id, ns)
}

// end ends a namespace that nothing is in. n.mu is held.
func (n *Namespaces) end(id string, ns *namespace) {
	if ns.users > 0 || slices.ContainsFunc(ns.adapters, func(a *adapter) bool { return a != nil }) {
		return
	}
	ns.space.close()
	delete(n.all, strings.ToLower(id))
}

// find returns the place of an adapter, -1 if there is none.
func (ns *namespace) find(id string) int {
	return slices.IndexFunc(ns.adapters, func(a *adapter) bool { return a != nil && strings.EqualFold(a.ID, id) })
}

// Remove removes an adapter; the namespace goes with the last of its adapters
// and containers. The adding of one that is on its way ends first. An adapter
// that is not there is no error.
func (n *Namespaces) Remove(a hcsschema.LCOWNetworkAdapter) error {
	if err := check(a); err != nil {
		return err
	}
	for {
		under, err := n.remove(a)
		if under == nil {
			return err
		}
		<-under
	}
}

// remove removes an adapter, or calls off its adding and returns what is closed
// at the end of that.
func (n *Namespaces) remove(a hcsschema.LCOWNetworkAdapter) (under <-chan struct{}, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ns := n.all[strings.ToLower(a.NamespaceID)]
	if ns == nil {
		return nil, nil
	}
	at := ns.find(a.ID)
	if at < 0 {
		return nil, nil
	}
	old := ns.adapters[at]
	if old.index == 0 {
		old.off()
		return old.done, nil
	}
	if err := ns.space.detach(old); err != nil {
		return nil, fmt.Errorf("adapter %s: %w", a.ID, err)
	}
	n.drop(a.NamespaceID, ns, at)
	return nil, nil
}

// Join returns the path of a namespace, for a container to join, and what to
// call when the container is gone. A namespace that the host has not filled is
// made: its adapters may come later.
func (n *Namespaces) Join(id string) (path string, leave func(), err error) {
	if err := check(hcsschema.LCOWNetworkAdapter{NamespaceID: id, ID: "-"}); err != nil {
		return "", nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	ns, err := n.get(strings.ToLower(id))
	if err != nil {
		return "", nil, err
	}
	ns.users++
	return ns.space.path(), sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		ns.users--
		n.end(id, ns)
	}), nil
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
	ns := n.all[strings.ToLower(id)]
	if ns == nil {
		return DNS{}, fmt.Errorf("%w: %.80q", ErrNoNamespace, id)
	}
	var d DNS
	for _, a := range ns.adapters {
		if a == nil {
			continue
		}
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
