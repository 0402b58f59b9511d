package hns_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/hns/hnstest"
)

// The tests of the binding run under Wine, on the stand-in of
// test/wine/dll/computenetwork.c, and none of them on the real service.
var standin = windows.NewLazySystemDLL("computenetwork.dll")

func TestMain(m *testing.M) {
	if os.Getenv("BYRE_WINE_CHILD") != "" {
		os.Exit(0)
	}
	if err := standin.NewProc("StandinNetworkFail").Find(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func failNext(t *testing.T, call string, code uint32) {
	t.Helper()
	name, err := windows.BytePtrFromString(call)
	if err != nil {
		t.Fatal(err)
	}
	standin.NewProc("StandinNetworkFail").Call(uintptr(unsafe.Pointer(name)), uintptr(code))
}

// checkHandles fails the test when a handle stays open or was used closed.
func checkHandles(t *testing.T) {
	t.Helper()
	for _, name := range []string{"StandinNetworkHandles", "StandinNetworkMisuses"} {
		t.Cleanup(func() {
			if n, _, _ := standin.NewProc(name).Call(); n != 0 {
				t.Errorf("%s: got %d, want 0", name, n)
			}
		})
	}
}

func TestHost(t *testing.T) {
	checkHandles(t)
	hnstest.TestNetwork(t, func(*testing.T) hns.Network { return hns.Host() },
		hns.HNSEndpoint{VirtualNetwork: "nat", IPAddress: net.IPv4(172, 20, 0, 5), PrefixLength: 20})
}

// objects are the ids of everything that there is.
func objects(t *testing.T) []string {
	t.Helper()
	all, err := hns.Host().Endpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, e := range all {
		ids = append(ids, e.Id)
	}
	return ids
}

// Each function fails once; nothing stays, and the code is in the error.
func TestHostFailures(t *testing.T) {
	checkHandles(t)
	n, ctx := hns.Host(), t.Context()
	ns, err := n.CreateNamespace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hns.Host().RemoveNamespace(t.Context(), ns.Id) })
	const broken = 0x80070005
	for _, call := range []string{
		"HcnEnumerateNetworks", "HcnOpenNetwork", "HcnQueryNetworkProperties", "HcnCloseNetwork", "HcnCreateEndpoint",
		"HcnQueryEndpointProperties", "HcnCloseEndpoint", "HcnOpenNamespace", "HcnQueryNamespaceProperties",
		"HcnCloseNamespace", "HcnModifyNamespace",
	} {
		before := objects(t)
		failNext(t, call, broken)
		e, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{VirtualNetwork: "nat", Namespace: &hns.Namespace{ID: ns.Id}})
		if err == nil {
			t.Errorf("%s failed, and there is %+v", call, e)
		} else if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: got error %v, want one that is %v", call, err, fs.ErrPermission)
		}
		if after := objects(t); !slices.Equal(before, after) {
			t.Errorf("%s failed: got endpoints %v, want %v", call, after, before)
		}
	}
	// A function that the host lacks, and a service that does not run.
	failNext(t, "HcnEnumerateNamespaces", 0x80070424)
	if _, err := hns.NewSession(); err == nil || !errors.Is(err, hns.ErrNotSupported) {
		t.Errorf("got error %v, want %v", err, hns.ErrNotSupported)
	}
	failNext(t, "", 0)
}

func TestHostSession(t *testing.T) {
	checkHandles(t)
	before := objects(t)
	s, err := hns.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	ns, err := s.CreateNamespace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateEndpoint(t.Context(), &hns.HNSEndpoint{Namespace: &hns.Namespace{ID: ns.Id}}); err != nil {
		t.Fatal(err)
	}

	// What a process left that was killed: one whose number nobody has now,
	// and one whose number this process has.
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "BYRE_WINE_CHILD=1")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{
		hns.HCNOwnedID(uint32(child.Process.Pid), 1, 1), hns.HCNOwnedID(uint32(os.Getpid()), 1, 1),
	} {
		if _, err := hns.Host().CreateEndpoint(t.Context(), &hns.HNSEndpoint{Id: id}); err != nil {
			t.Fatal(err)
		}
	}
	other, err := hns.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if got := objects(t); len(got) != len(before)+1 {
		t.Errorf("got endpoints %v, want %v and that of the session", got, before)
	}
	for _, s := range []hns.Session{other, s, s} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := objects(t); !slices.Equal(got, before) {
		t.Errorf("got endpoints %v, want %v", got, before)
	}
	if _, err := hns.Host().Namespace(t.Context(), ns.Id); !errors.Is(err, hns.ErrNotFound) {
		t.Errorf("got error %v, want %v", err, hns.ErrNotFound)
	}
}
