package hns_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/byrevm/byre/hns"
)

// An endpoint that is removed while it has a NIC is connected to nothing any
// more: its addresses may be another's by then.
func TestBridgeRemovedInUse(t *testing.T) {
	if !apart(t) {
		return
	}
	dir := t.TempDir()
	n := session(t, dir)
	e := create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge})
	a := openGuest(t, n, e)
	b := openGuest(t, n, create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge}))
	a.ask(a.mac, a.mac, a.ip, b.ip)
	if f := b.frame(); !bytes.Equal(f[6:12], a.mac) || !net.IP(f[38:42]).Equal(b.ip) {
		t.Errorf("got %x", f)
	}
	if err := hns.OpenDir(dir).RemoveEndpoint(t.Context(), e.Id); err != nil { // by another caller
		t.Fatal(err)
	}
	next := create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge})
	if !next.IPAddress.Equal(e.IPAddress) || next.MacAddress != e.MacAddress {
		t.Fatalf("got %v %s, want the addresses of the one before", next.IPAddress, next.MacAddress)
	}
	c := openGuest(t, n, next)
	a.try(a.mac, a.mac, a.ip, b.ip)
	c.ask(c.mac, c.mac, c.ip, net.IPv4(10, 214, 0, 1))
	c.ask(c.mac, c.mac, c.ip, b.ip)
	if f := c.frame(); f[21] != 2 {
		t.Errorf("got %x", f)
	}
	if f := b.frame(); !net.IP(f[38:42]).Equal(net.IPv4(10, 214, 0, 1)) {
		t.Errorf("got %x of one that was removed", f)
	}
	for _, g := range []*guest{a, b, c} {
		if err := g.nic.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	nothing(t)
}

// Rules that somebody has removed are there again for the next endpoint.
func TestBridgeRulesRemoved(t *testing.T) {
	if !apart(t) {
		return
	}
	n := session(t, t.TempDir())
	create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge})
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	chains := func() (names string) {
		t.Helper()
		all, err := c.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
		if err != nil {
			t.Fatal(err)
		}
		for _, chain := range all {
			names += chain.Table.Name + "/" + chain.Name + " "
		}
		return names
	}
	want := chains()
	c.FlushRuleset()
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := chains(); got != "" {
		t.Fatalf("got %s", got)
	}
	create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge})
	if got := chains(); got != want || want == "" {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A host that forwards nothing by default, as one with Docker, is told of.
func TestBridgeWarns(t *testing.T) {
	if !apart(t) {
		return
	}
	var log strings.Builder
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	said := func() string {
		t.Helper()
		log.Reset()
		n := session(t, t.TempDir())
		create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge, DNSServerList: "192.0.2.1"})
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		return log.String()
	}
	if got := said(); got != "" {
		t.Errorf("got %s", got)
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	policy := nftables.ChainPolicyDrop
	table := c.AddTable(&nftables.Table{Name: "filter", Family: nftables.TableFamilyIPv4})
	c.AddChain(&nftables.Chain{Table: table, Name: "FORWARD", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &policy})
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := said(); !strings.Contains(got, "drop what it forwards") || !strings.Contains(got, "table=filter chain=FORWARD") {
		t.Errorf("got %s", got)
	}
}
