//go:build linux

package network

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

// rename gives a link of this thread's namespace another name.
func rename(t *testing.T, from, to string) {
	t.Helper()
	l, err := netlink.LinkByName(from)
	if err == nil {
		err = netlink.LinkSetName(l, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A container that has taken the name of an adapter keeps it, and the adapter
// is where it was: whether it was refused the name before the move or after.
func TestNameTaken(t *testing.T) {
	for _, had := range []string{"eth0", "plug1"} {
		t.Run(had, func(t *testing.T) {
			machine(t)
			plug(t, 1, overtaken.MacAddress)
			if had != "plug1" {
				rename(t, "plug1", had)
			}
			var n Namespaces
			path, leave, err := n.Join(overtaken.NamespaceID)
			if err != nil {
				t.Fatal(err)
			}
			defer leave()
			taken := func() error {
				return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}})
			}
			inside(t, path, taken)
			if err := n.Add(overtaken, nil); !errors.Is(err, unix.EEXIST) {
				t.Errorf("got %v, want %v", err, unix.EEXIST)
			}
			if got := names(t, path); len(got) != 0 {
				t.Errorf("left in the namespace: %v", got)
			}
			l, err := netlink.LinkByName(had)
			if err != nil || l.Attrs().Flags&unix.IFF_UP != 0 {
				t.Errorf("the adapter is not where it was, or up: %v", err)
			}
			inside(t, path, func() error {
				l, err := netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				return netlink.LinkDel(l)
			})
			if err := n.Add(overtaken, nil); err != nil {
				t.Errorf("when the name is free: %v", err)
			}
			if got, want := fmt.Sprint(names(t, path)), "[eth0 02:00:00:00:00:01 1500]"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// The kernel names each adapter eth0 while no other is in the machine: each
// has the next name in its namespace, and all get back.
func TestNamesCollide(t *testing.T) {
	machine(t)
	var n Namespaces
	path, leave, err := n.Join("n")
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	var all []hcsschema.LCOWNetworkAdapter
	for i := range 3 {
		a := overtaken
		a.ID, a.MacAddress, a.IPAddress = fmt.Sprint(i), fmt.Sprintf("02:00:00:00:00:0%d", i+1), fmt.Sprintf("10.0.%d.2", i)
		plug(t, i, a.MacAddress)
		rename(t, fmt.Sprint("plug", i), "eth0")
		if err := n.Add(a, nil); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	if got, want := fmt.Sprint(names(t, path)), "[eth0 02:00:00:00:00:01 1500 eth1 02:00:00:00:00:02 1500 eth2 02:00:00:00:00:03 1500]"; !sameWords(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	// Somebody has the name that the first would have in the machine.
	plug(t, 9, "02:00:00:00:00:09")
	rename(t, "plug9", "eth0")
	for _, a := range all {
		if err := n.Remove(a); err != nil {
			t.Errorf("removing %s: %v", a.ID, err)
		}
	}
	if got := names(t, path); len(got) != 0 {
		t.Errorf("left in the namespace: %v", got)
	}
	for _, a := range all {
		if err := n.Add(a, nil); err != nil {
			t.Errorf("adding %s again: %v", a.ID, err)
		}
	}
}
