//go:build linux

package network

import (
	"errors"
	"os"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/byrevm/byre/hcsschema"
)

var overtaken = hcsschema.LCOWNetworkAdapter{
	NamespaceID: "n", ID: "a", MacAddress: "02:00:00:00:00:01", IPAddress: "10.0.0.2", PrefixLength: 24,
}

// A Remove that follows an Add which was called off ends it: it must not take
// the adapter that the next Add is for.
func TestRemoveWhileAdding(t *testing.T) {
	machine(t)
	var n Namespaces
	removed := make(chan error, 1)
	err := n.Add(overtaken, loaderFunc(func(...string) error {
		go func() { removed <- n.Remove(overtaken) }()
		return nil
	}))
	if !errors.Is(err, errRemoved) {
		t.Errorf("adding: got %v, want %v", err, errRemoved)
	}
	if err := <-removed; err != nil {
		t.Errorf("removing: %v", err)
	}
	if len(n.all) != 0 {
		t.Errorf("left behind: %v", n.all)
	}
	plug(t, 1, overtaken.MacAddress)
	if err := n.Add(overtaken, nil); err != nil {
		t.Errorf("adding again: %v", err)
	}
	if err := n.Remove(overtaken); err != nil {
		t.Error(err)
	}
}

// An adapter that goes before it is set up is waited for once more.
func TestAdapterGoes(t *testing.T) {
	machine(t)
	var n Namespaces
	p, err := newPlan(overtaken)
	if err != nil {
		t.Fatal(err)
	}
	ns, made, at, err := n.reserve(overtaken, p, func() {})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	find := func() (netlink.Link, error) {
		found++
		plug(t, found, overtaken.MacAddress)
		l, err := find(t.Context(), overtaken.ID, p.mac, nil)
		if err == nil && found == 1 {
			err = netlink.LinkDel(l)
		}
		if found > 2 {
			err = os.ErrDeadlineExceeded
		}
		return l, err
	}
	if err := n.attach(t.Context(), ns, made, at, find); err != nil || found != 2 {
		t.Errorf("after %d: %v", found, err)
	}
	if err := n.Remove(overtaken); err != nil || len(n.all) != 0 {
		t.Errorf("removing: %v; left behind: %v", err, n.all)
	}
}
