//go:build linux

package network

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/byrevm/byre/hcsschema"
)

const vmbusID = "6b1b5d3a-2f4e-4d0c-9a51-0c0f5d1f7c2e"

// vmbus makes the sysfs of a machine on Hyper-V, and returns the folder of the
// links of its adapter.
func vmbus(t *testing.T) string {
	t.Helper()
	old := sysfs
	sysfs = t.TempDir()
	t.Cleanup(func() { sysfs = old })
	dir := filepath.Join(vmbusDevices(), vmbusID, "net")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestVMBusAdapter has an adapter and, as with hardware that serves it, another
// link with its MAC address, which is not the one to use.
func TestVMBusAdapter(t *testing.T) {
	machine(t)
	links := vmbus(t)
	plug(t, 1, "02:00:00:00:00:01")
	plug(t, 2, "02:00:00:00:00:01")
	var asked []string
	loader := loaderFunc(func(names ...string) error {
		asked = append(asked, names...)
		return os.Mkdir(filepath.Join(links, "plug2"), 0o755)
	})
	var n Namespaces
	a := hcsschema.LCOWNetworkAdapter{NamespaceID: "n", ID: "6B1B5D3A-2F4E-4D0C-9A51-0C0F5D1F7C2E",
		MacAddress: "02-00-00-00-00-01", IPAddress: "10.0.0.2", PrefixLength: 24}
	if err := n.Add(a, loader); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 1 || asked[0] != "hv_netvsc" {
		t.Errorf("asked for %q", asked)
	}
	if _, err := netlink.LinkByName("plug1"); err != nil {
		t.Errorf("the other link: %v", err)
	}
	if _, err := netlink.LinkByName("plug2"); err == nil {
		t.Error("the adapter's link is still in the machine")
	}
	if err := n.Remove(a); err != nil {
		t.Error(err)
	}
}

func TestVMBusLink(t *testing.T) {
	links := vmbus(t)
	if name, ok := vmbusLink(vmbusID); name != "" || !ok {
		t.Errorf("no driver yet: got %q, %t", name, ok)
	}
	past, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if _, err := find(past, vmbusID, nil, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no driver: got %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if err := os.Mkdir(filepath.Join(links, "eth0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if name, ok := vmbusLink(vmbusID); name != "eth0" || !ok {
		t.Errorf("got %q, %t", name, ok)
	}
	for _, id := range []string{"", "x", "..", "../devices/" + vmbusID} {
		if name, ok := vmbusLink(id); name != "" || ok {
			t.Errorf("%q: got %q, %t", id, name, ok)
		}
	}
}
