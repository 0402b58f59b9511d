package hns_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/hns/hnstest"
)

func TestLocal(t *testing.T) {
	hnstest.TestNetwork(t, func(t *testing.T) hns.Network { return hns.OpenDir(t.TempDir()) }, hns.HNSEndpoint{})
}

func TestLocalSession(t *testing.T) {
	hnstest.TestNetwork(t, func(t *testing.T) hns.Network { return session(t, t.TempDir()) }, hns.HNSEndpoint{
		VirtualNetwork: hns.NAT, IPAddress: net.IPv4(172, 20, 0, 5), PrefixLength: 20,
	})
}

func session(t *testing.T, dir string) hns.Session {
	t.Helper()
	s, err := hns.OpenSessionDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// What one caller has made is there for the next, and for one beside it.
func TestSurvives(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	n := hns.OpenDir(dir)
	ns, err := n.CreateNamespace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	e, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{Name: "x", Namespace: &hns.Namespace{ID: ns.Id}})
	if err != nil {
		t.Fatal(err)
	}
	s := session(t, dir)
	for range 2 {
		got, err := hns.NamespaceEndpoints(ctx, hns.OpenDir(dir), ns.Id)
		if err != nil || len(got) != 1 || got[0].Id != e.Id || got[0].MacAddress != e.MacAddress || !got[0].IPAddress.Equal(e.IPAddress) {
			t.Errorf("got %v, %v, want %+v", got, err, e)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAddresses(t *testing.T) {
	n, ctx := hns.OpenDir(t.TempDir()), t.Context()
	for i, want := range []string{"10.213.0.2/28 10.213.0.1", "10.213.0.18/28 10.213.0.17", "10.213.0.34/28 10.213.0.33"} {
		e, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%v/%d %s", e.IPAddress, e.PrefixLength, e.GatewayAddress); got != want {
			t.Errorf("endpoint %d: got %s, want %s", i, got, want)
		}
		if e.DNSServerList != e.GatewayAddress || e.VirtualNetwork != hns.NAT {
			t.Errorf("endpoint %d: got %+v", i, e)
		}
	}
	e, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{IPAddress: net.ParseIP("fd00::5"), PrefixLength: 64, DNSServerList: "9.9.9.9"})
	if err != nil || e.GatewayAddress != "fd00::1" || e.DNSServerList != "9.9.9.9" {
		t.Errorf("got %+v, %v", e, err)
	}
}

// An endpoint of nat has IPv6, too, if it asks for it or this host has a way to
// what has it.
func TestNATIPv6(t *testing.T) {
	if !apart(t) {
		return
	}
	n, ctx := hns.OpenDir(t.TempDir()), t.Context()
	show := func(e *hns.HNSEndpoint) string {
		return fmt.Sprintf("%v/%d %s %v %+v", e.IPAddress, e.PrefixLength, e.GatewayAddress, e.IPConfigs, e.Routes)
	}
	for _, want := range []string{
		"10.213.0.2/28 10.213.0.1 [] []",
		"10.213.0.18/28 10.213.0.17 [{fd62:7972:6565:10::2 64}] [{NextHop:fd62:7972:6565:10::1 DestinationPrefix:::/0 Metric:0}]",
	} {
		if got := show(create(t, n, hns.HNSEndpoint{})); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if err := errors.Join(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up6"}, PeerName: "far6"}),
			link("far6", netlink.LinkSetUp), link("up6", func(l netlink.Link) error {
				a, err := netlink.ParseAddr("2001:db8::2/64")
				if err != nil {
					return err
				}
				a.Flags = unix.IFA_F_NODAD
				return errors.Join(netlink.LinkSetUp(l), netlink.AddrAdd(l, a),
					netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP("2001:db8::1")}))
			})); err != nil && !errors.Is(err, unix.EEXIST) {
			t.Fatal(err)
		}
	}
	six := []hns.IPConfig{{IPAddress: net.ParseIP("fd00:b::9"), PrefixLength: 64}}
	asked := create(t, n, hns.HNSEndpoint{IPConfigs: six})
	if got, want := show(asked), "10.213.0.34/28 10.213.0.33 [{fd00:b::9 64}] [{NextHop:fd00:b::1 DestinationPrefix:::/0 Metric:0}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	again := asked.Clone() // what it was filled in with can be asked for
	again.Id = ""
	if got, want := show(create(t, n, *again)), show(asked); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	turned := create(t, n, hns.HNSEndpoint{IPAddress: six[0].IPAddress, PrefixLength: 64, IPConfigs: []hns.IPConfig{{IPAddress: net.IPv4(10, 9, 9, 9), PrefixLength: 24}}})
	if got, want := show(turned), "fd00:b::9/64 fd00:b::1 [{10.9.9.9 24}] [{NextHop:10.9.9.1 DestinationPrefix:0.0.0.0/0 Metric:0}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, e := range map[string]hns.HNSEndpoint{
		"two of a family":         {IPConfigs: []hns.IPConfig{{IPAddress: net.IPv4(10, 9, 9, 9), PrefixLength: 24}}},
		"three":                   {IPConfigs: append(six, six...)},
		"the gateway's address":   {IPConfigs: []hns.IPConfig{{IPAddress: net.ParseIP("fd00:b::1"), PrefixLength: 64}}},
		"a route":                 {Routes: []hns.Route{{NextHop: "10.213.0.1", DestinationPrefix: "10.0.0.0/8"}}},
		"a route beside its own":  {IPConfigs: six, Routes: append(asked.Routes, asked.Routes...)},
		"an address of the links": {IPConfigs: []hns.IPConfig{{IPAddress: net.ParseIP("fe80::9"), PrefixLength: 64}}},
	} {
		if _, err := n.CreateEndpoint(ctx, &e); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestEndpointRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	used := uint16(l.Addr().(*net.TCPAddr).Port)
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := uint16(u.LocalAddr().(*net.UDPAddr).Port)
	u.Close()
	policy := func(p any) []json.RawMessage { return []json.RawMessage{hns.NewPolicy(p)} }
	for _, tt := range []struct {
		name string
		e    hns.HNSEndpoint
		want error
	}{
		{"network", hns.HNSEndpoint{VirtualNetwork: "overlay"}, hns.ErrNotSupported},
		{"network by name", hns.HNSEndpoint{VirtualNetworkName: "L2 bridge"}, hns.ErrNotSupported},
		{"remote", hns.HNSEndpoint{IsRemoteEndpoint: true}, hns.ErrNotSupported},
		{"policy", hns.HNSEndpoint{Policies: policy("ACL")}, hns.ErrNotSupported},
		{"port in use", hns.HNSEndpoint{Policies: policy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "TCP", InternalPort: 80, ExternalPort: used})}, syscall.EADDRINUSE},
		{"port twice", hns.HNSEndpoint{Policies: append(policy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "UDP", InternalPort: 80, ExternalPort: free}),
			policy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "UDP", InternalPort: 81, ExternalPort: free, ExternalIP: "0.0.0.0"})...)}, syscall.EADDRINUSE},
		{"protocol", hns.HNSEndpoint{Policies: policy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "SCTP", InternalPort: 80, ExternalPort: 1})}, nil},
		{"external address", hns.HNSEndpoint{Policies: policy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "UDP", InternalPort: 80, ExternalPort: 1, ExternalIP: "x"})}, nil},
		{"no port", hns.HNSEndpoint{Policies: policy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "UDP"})}, nil},
		{"no policy", hns.HNSEndpoint{Policies: []json.RawMessage{[]byte(`7`)}}, nil},
		{"id", hns.HNSEndpoint{Id: "../x"}, nil},
		{"MAC address", hns.HNSEndpoint{MacAddress: "x"}, nil},
		{"MAC address of a group", hns.HNSEndpoint{MacAddress: "01-00-00-00-00-01"}, nil},
		{"prefix", hns.HNSEndpoint{IPAddress: net.IPv4(10, 0, 0, 2), PrefixLength: 33}, nil},
		{"loopback", hns.HNSEndpoint{IPAddress: net.IPv4(127, 0, 0, 2), PrefixLength: 24}, nil},
		{"gateway", hns.HNSEndpoint{IPAddress: net.IPv4(10, 0, 0, 2), PrefixLength: 24, GatewayAddress: "127.0.0.1"}, nil},
		{"gateway of the other family", hns.HNSEndpoint{IPAddress: net.IPv4(10, 0, 0, 2), PrefixLength: 24, GatewayAddress: "fd00::1"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := hns.OpenDir(t.TempDir())
			_, err := n.CreateEndpoint(t.Context(), &tt.e)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if all, err := n.Endpoints(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("got %v, %v after a failure, want nothing", all, err)
			}
		})
	}
}

func TestNIC(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	n := hns.OpenDir(dir)
	o := n.(hns.Opener)
	e, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{MacAddress: "02-00-00-00-00-0A"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.OpenNIC(ctx, "0badf00d-0000-4000-8000-000000000000"); !errors.Is(err, hns.ErrNotFound) {
		t.Errorf("got %v, want %v", err, hns.ErrNotFound)
	}
	for range 2 { // after Close it can be opened again
		nic, err := o.OpenNIC(ctx, e.Id)
		if err != nil {
			t.Fatal(err)
		}
		if nic.MAC != "02:00:00:00:00:0a" || nic.MTU < 1280 {
			t.Errorf("got %+v", nic)
		}
		if _, err := hns.OpenDir(dir).(hns.Opener).OpenNIC(ctx, strings.ToUpper(e.Id)); !errors.Is(err, hns.ErrAlreadyExists) {
			t.Errorf("the second NIC: got %v, want %v", err, hns.ErrAlreadyExists)
		}
		fd, err := syscall.Dup(int(nic.Link.Fd())) // as QEMU has one
		if err != nil {
			t.Fatal(err)
		}
		link := os.NewFile(uintptr(fd), "link")
		for range 2 {
			if err := nic.Close(); err != nil {
				t.Error(err)
			}
		}
		if _, err := link.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("got %v, want the end", err)
		}
		link.Close()
	}
	left, err := os.ReadDir(filepath.Join(dir, "nics"))
	if err != nil || len(left) != 0 {
		t.Errorf("got %v, %v, want nothing left", left, err)
	}
}

// What a session has made goes with it, and with its process however that
// ends; what others have made stays.
func TestSessionEnds(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	n := hns.OpenDir(dir)
	kept, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{})
	if err != nil {
		t.Fatal(err)
	}
	fill := func(s hns.Network) {
		t.Helper()
		ns, err := s.CreateNamespace(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateEndpoint(ctx, &hns.HNSEndpoint{Namespace: &hns.Namespace{ID: ns.Id}}); err != nil {
			t.Fatal(err)
		}
		if err := s.AddToNamespace(ctx, ns.Id, kept.Id); err != nil {
			t.Fatal(err)
		}
	}
	s := session(t, dir)
	fill(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	alone := func() {
		t.Helper()
		all, err := n.Endpoints(ctx)
		if err != nil || len(all) != 1 || all[0].Id != kept.Id || all[0].Namespace != nil {
			t.Errorf("got %v, %v, want %s alone and in no namespace", all, err, kept.Id)
		}
		for _, what := range []string{"sessions", "nics"} {
			if left, err := os.ReadDir(filepath.Join(dir, what)); err != nil || len(left) != 0 {
				t.Errorf("%s: got %v, %v, want nothing left", what, left, err)
			}
		}
	}
	alone()

	cmd := exec.Command(os.Args[0], "-test.run=^TestSessionOfAnother$")
	cmd.Env = append(os.Environ(), "BYRE_TEST_SESSION="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if all, err := n.Endpoints(ctx); err != nil || len(all) != 2 {
		t.Errorf("got %v, %v, want the endpoint of the process that lives, too", all, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	alone()
}

// TestSessionOfAnother is the process that TestSessionEnds kills.
func TestSessionOfAnother(t *testing.T) {
	dir := os.Getenv("BYRE_TEST_SESSION")
	if dir == "" {
		return
	}
	s, err := hns.OpenSessionDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.CreateEndpoint(t.Context(), &hns.HNSEndpoint{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.(hns.Opener).OpenNIC(t.Context(), e.Id); err != nil {
		t.Fatal(err)
	}
	os.Stdout.Write([]byte("."))
	io.Copy(io.Discard, os.Stdin)
}

func TestFolderOfOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := hns.OpenDir(dir).CreateNamespace(t.Context()); err == nil {
		t.Error("a folder that all can write is taken")
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "state"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hns.OpenDir(broken).CreateNamespace(t.Context()); err == nil {
		t.Error("a state that cannot be read is taken for none")
	}
}

func TestStateDir(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	want := "/run/user/7/byre/.network"
	if os.Geteuid() == 0 {
		want = "/run/byre/.network"
	}
	if got := hns.StateDir(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
