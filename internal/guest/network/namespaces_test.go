//go:build linux

package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

// machine puts the test into a network namespace of its own.
func machine(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // not unlocked: the thread is of no other use
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("no network namespace: %v", err)
	}
	if err := LoopbackUp(); err != nil {
		t.Fatal(err)
	}
}

// plug makes an adapter with that MAC address; its other end has addresses.
func plug(t *testing.T, n int, mac string, addresses ...string) {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	peer := fmt.Sprintf("host%d", n)
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("plug%d", n), HardwareAddr: hw}, PeerName: peer}
	if err := netlink.LinkAdd(v); err != nil {
		t.Fatal(err)
	}
	l, err := netlink.LinkByName(peer)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		t.Fatal(err)
	}
}

// inside runs f in a namespace.
func inside(t *testing.T, path string, f func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open(path)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// reach connects to an address, whose listener is in the machine.
func reach(t *testing.T, path, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, c.RemoteAddr().String())
			c.Close()
		}
	}()
	inside(t, path, func() error {
		fd := 0
		a, err := net.ResolveTCPAddr("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		if ip := a.IP.To4(); ip != nil {
			fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte(ip), Port: a.Port})
			}
		} else {
			fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.Connect(fd, &unix.SockaddrInet6{Addr: [16]byte(a.IP), Port: a.Port})
			}
		}
		if err != nil {
			return fmt.Errorf("connecting to %s: %w", address, err)
		}
		return unix.Close(fd)
	})
}

func names(t *testing.T, path string) (found []string) {
	t.Helper()
	inside(t, path, func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if l.Type() == "veth" {
				found = append(found, fmt.Sprintf("%s %v %d", l.Attrs().Name, l.Attrs().HardwareAddr, l.Attrs().MTU))
			}
		}
		return err
	})
	return found
}

func TestAdapters(t *testing.T) {
	machine(t)
	var n Namespaces
	const first, second, third = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
	plug(t, 2, second, "10.2.0.1/24", "fd02::1/64")
	plug(t, 1, first, "10.1.0.1/24")
	plug(t, 3, third, "192.168.9.9/32")
	a := hcsschema.LCOWNetworkAdapter{
		NamespaceID: "NS-1", ID: "A", MacAddress: "02-00-00-00-00-01",
		IPAddress: "10.1.0.2", PrefixLength: 24, GatewayAddress: "10.1.0.1",
		DNSSuffix: "x.y, z", DNSServerList: "1.1.1.1,2.2.2.2", EncapOverhead: 50,
	}
	b := hcsschema.LCOWNetworkAdapter{
		NamespaceID: "ns-1", ID: "b", MacAddress: second, DNSSuffix: "z", DNSServerList: "2.2.2.2,3.3.3.3",
		IPConfigs: []hcsschema.LCOWIPConfig{{IPAddress: "10.2.0.2", PrefixLength: 24}, {IPAddress: "fd02::2", PrefixLength: 64}},
		Routes: []hcsschema.LCOWRoute{
			{NextHop: "10.2.0.1", DestinationPrefix: "0.0.0.0/0"}, {NextHop: "fd02::1", DestinationPrefix: "::/0", Metric: 7},
			{NextHop: "0.0.0.0", DestinationPrefix: "0.0.0.0/0"}, {NextHop: "10.2.0.1", DestinationPrefix: "10.77.0.0/16"}, {DestinationPrefix: "10.78.0.0/16"},
		},
	}
	// A gateway that is on no subnet of the adapter.
	c := hcsschema.LCOWNetworkAdapter{
		NamespaceID: "ns-1", ID: "c", MacAddress: third, IPAddress: "10.3.0.2", PrefixLength: 32, GatewayAddress: "192.168.9.9", EnableLowMetric: true,
	}
	path, leave, err := n.Join("ns-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []hcsschema.LCOWNetworkAdapter{a, b, c} {
		if err := n.Add(x, nil); err != nil {
			t.Fatal(err)
		}
	}
	again := a
	again.ID = "a"
	if err := n.Add(again, nil); !errors.Is(err, ErrAdapter) {
		t.Errorf("twice: got %v, want %v", err, ErrAdapter)
	}
	if got, want := fmt.Sprint(names(t, path)), "[eth0 02:00:00:00:00:01 1450 eth1 02:00:00:00:00:02 1500 eth2 02:00:00:00:00:03 1500]"; !sameWords(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	// The way back to 10.3.0.2.
	host3, err := netlink.LinkByName("host3")
	if err != nil {
		t.Fatal(err)
	}
	_, far, _ := net.ParseCIDR("10.3.0.2/32")
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: host3.Attrs().Index, Dst: far, Scope: netlink.SCOPE_LINK}); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"10.1.0.1:0", "10.2.0.1:0", "[fd02::1]:0"} {
		reach(t, path, to)
	}
	d, err := n.DNS("ns-1")
	if got, want := fmt.Sprint(d, err), "{[x.y z] [1.1.1.1 2.2.2.2 3.3.3.3]} <nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	inside(t, path, func() error {
		rules, err := netlink.RuleList(netlink.FAMILY_V4)
		var found []string
		for _, r := range rules {
			if r.Priority == rulePriority {
				found = append(found, fmt.Sprintf("%v:%d", r.Src, r.Table))
			}
		}
		if got, want := fmt.Sprint(found), "[10.3.0.2/32:103 10.2.0.2/32:102]"; err != nil || !sameWords(got, want) {
			return fmt.Errorf("got rules %s, %w, want %s", got, err, want)
		}
		return nil
	})

	// One that goes leaves its name to the next, and nothing else.
	if err := errors.Join(n.Remove(b), n.Remove(b)); err != nil {
		t.Fatal(err)
	}
	if err := n.Add(b, nil); err != nil {
		t.Errorf("after its removal: %v", err)
	}
	if err := errors.Join(n.Remove(again), n.Remove(b), n.Remove(c)); err != nil {
		t.Fatal(err)
	}
	if got := names(t, path); len(got) != 0 {
		t.Errorf("left in the namespace: %v", got)
	}
	if _, err := n.DNS("NS-1"); err != nil {
		t.Errorf("with a container in it: %v", err)
	}
	leave()
	leave()
	if _, err := n.DNS("NS-1"); !errors.Is(err, ErrNoNamespace) {
		t.Errorf("got %v, want %v", err, ErrNoNamespace)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the namespace is still open")
	}
}

func sameWords(a, b string) bool {
	count := func(s string) map[string]int {
		m := make(map[string]int)
		for _, w := range strings.Fields(strings.Trim(s, "[]")) {
			m[w]++
		}
		return m
	}
	return fmt.Sprint(count(a)) == fmt.Sprint(count(b))
}

// An adapter that cannot be set up is where it was.
func TestAdapterFails(t *testing.T) {
	machine(t)
	plug(t, 1, "02:00:00:00:00:01")
	var n Namespaces
	a := hcsschema.LCOWNetworkAdapter{
		NamespaceID: "n", ID: "a", MacAddress: "02:00:00:00:00:01", IPAddress: "10.0.0.2", PrefixLength: 24, GatewayAddress: "fd00::1",
		Routes:        []hcsschema.LCOWRoute{{NextHop: "10.99.0.1", DestinationPrefix: "127.0.0.0/8"}},
		EncapOverhead: 1499,
	}
	if err := n.Add(a, nil); err == nil {
		t.Fatal("an MTU of 1 was set")
	}
	if _, err := n.DNS("n"); !errors.Is(err, ErrNoNamespace) {
		t.Errorf("got %v, want %v", err, ErrNoNamespace)
	}
	a.EncapOverhead, a.GatewayAddress, a.Routes = 0, "", nil
	if err := n.Add(a, nil); err != nil {
		t.Errorf("after that: %v", err)
	}
	// Unplugged by the host before the guest hears of it.
	path, leave, err := n.Join("n")
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	peer, err := netlink.LinkByName("host1")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(peer); err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(a); err != nil {
		t.Error(err)
	}
	if got := names(t, path); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// One that is plugged in later is waited for; its driver is asked for first.
func TestAdapterComesLater(t *testing.T) {
	machine(t)
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var asked string
	plugged := make(chan struct{})
	loader := loaderFunc(func(names ...string) error {
		asked = strings.Join(names, " ")
		go func() {
			defer close(plugged)
			inside(t, fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), func() error {
				plug(t, 1, "02:00:00:00:00:01")
				return nil
			})
		}()
		return nil
	})
	var n Namespaces
	a := hcsschema.LCOWNetworkAdapter{NamespaceID: "n", ID: "a", MacAddress: "02:00:00:00:00:01", IPAddress: "10.0.0.2", PrefixLength: 24}
	if err := n.Add(a, loader); err != nil {
		t.Error(err)
	}
	<-plugged
	if asked != "virtio_net" {
		t.Errorf("got module %q", asked)
	}
	if err := n.Remove(a); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	if err := n.Add(a, loaderFunc(func(...string) error { return broken })); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	past, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if _, err := find(past, "a", net.HardwareAddr{2, 9, 9, 9, 9, 9}, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
	}
}

type loaderFunc func(...string) error

func (f loaderFunc) Insert(names ...string) error { return f(names...) }

func TestAdapterRefused(t *testing.T) {
	good := hcsschema.LCOWNetworkAdapter{NamespaceID: "n", ID: "a", MacAddress: "02:00:00:00:00:01", IPAddress: "10.0.0.2", PrefixLength: 24}
	if _, err := newPlan(good); err != nil {
		t.Fatal(err)
	}
	var n Namespaces
	for name, change := range map[string]func(*hcsschema.LCOWNetworkAdapter){
		"no namespace": func(a *hcsschema.LCOWNetworkAdapter) { a.NamespaceID = "" },
		"no id":        func(a *hcsschema.LCOWNetworkAdapter) { a.ID = "" },
		"id":           func(a *hcsschema.LCOWNetworkAdapter) { a.ID = "a\n" },
		"DNS suffix":   func(a *hcsschema.LCOWNetworkAdapter) { a.DNSSuffix = "x\nnameserver 6.6.6.6" },
		"DNS servers":  func(a *hcsschema.LCOWNetworkAdapter) { a.DNSServerList = strings.Repeat("1", 2000) },
		"no MAC":       func(a *hcsschema.LCOWNetworkAdapter) { a.MacAddress = "" },
		"MAC":          func(a *hcsschema.LCOWNetworkAdapter) { a.MacAddress = "02:00" },
		"no address":   func(a *hcsschema.LCOWNetworkAdapter) { a.IPAddress = "" },
		"address":      func(a *hcsschema.LCOWNetworkAdapter) { a.IPAddress = "<nil>" },
		"zone":         func(a *hcsschema.LCOWNetworkAdapter) { a.IPAddress = "fe80::1%lo" },
		"prefix":       func(a *hcsschema.LCOWNetworkAdapter) { a.PrefixLength = 33 },
		"no prefix":    func(a *hcsschema.LCOWNetworkAdapter) { a.PrefixLength = 0 },
		"gateway":      func(a *hcsschema.LCOWNetworkAdapter) { a.GatewayAddress = "x" },
		"no gateway":   func(a *hcsschema.LCOWNetworkAdapter) { a.GatewayAddress = "0.0.0.0" },
		"destination":  func(a *hcsschema.LCOWNetworkAdapter) { a.Routes = []hcsschema.LCOWRoute{{DestinationPrefix: "x"}} },
		"hop": func(a *hcsschema.LCOWNetworkAdapter) {
			a.Routes = []hcsschema.LCOWRoute{{DestinationPrefix: "::/0", NextHop: "10.0.0.1"}}
		},
		"many routes":    func(a *hcsschema.LCOWNetworkAdapter) { a.Routes = make([]hcsschema.LCOWRoute, maxRoutes+1) },
		"many addresses": func(a *hcsschema.LCOWNetworkAdapter) { a.IPConfigs = make([]hcsschema.LCOWIPConfig, maxAddresses) },
	} {
		a := good
		change(&a)
		if n.Add(a, nil) == nil {
			t.Errorf("%s: %.80v is accepted", name, a)
		}
	}
	if len(n.all) != 0 {
		t.Errorf("got namespaces %v", n.all)
	}
}

func TestTooMany(t *testing.T) {
	machine(t)
	var n Namespaces
	ns := &namespace{adapters: make([]*adapter, maxAdapters)}
	for i := range ns.adapters {
		ns.adapters[i] = &adapter{LCOWNetworkAdapter: hcsschema.LCOWNetworkAdapter{ID: fmt.Sprint(i)}}
	}
	n.all = map[string]*namespace{"full": ns}
	a := hcsschema.LCOWNetworkAdapter{NamespaceID: "full", ID: "x", MacAddress: "02:00:00:00:00:01", IPAddress: "10.0.0.2", PrefixLength: 24}
	if err := n.Add(a, nil); err == nil {
		t.Error("one adapter too many is accepted")
	}
	for i := len(n.all); i < maxNamespaces; i++ {
		n.all[fmt.Sprint(i)] = ns
	}
	if _, _, err := n.Join("one-more"); err == nil {
		t.Error("one namespace too many is accepted")
	}
}
