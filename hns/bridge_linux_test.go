package hns_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/hns/hnstest"
)

// apart runs the test in a process that has a network namespace, mounts and a
// /run of its own, and reports whether this is that process.
func apart(t *testing.T) bool {
	t.Helper()
	const env = "BYRE_TEST_APART"
	if os.Getenv(env) == t.Name() {
		for _, err := range []error{
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("run", "/run", "tmpfs", 0, ""),
			link("lo", netlink.LinkSetUp),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

func link(name string, do func(netlink.Link) error) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return do(l)
}

// nothing checks that no bridge, tap or rule of byre is left.
func nothing(t *testing.T) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "byre") {
			t.Errorf("%s %s is left", l.Type(), l.Attrs().Name)
		}
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if table.Name == "byre" {
			t.Errorf("table %s of family %d is left", table.Name, table.Family)
		}
	}
}

func makeBridge(t *testing.T, name, address string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	// It looks into nothing that it passes on.
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: new(bool)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := link(name, netlink.LinkDel); err != nil {
			t.Error(err)
		}
	})
	err := link(name, func(l netlink.Link) error {
		if address == "" {
			return nil
		}
		a, err := netlink.ParseAddr(address)
		if err == nil {
			err = netlink.AddrAdd(l, a)
		}
		return errors.Join(err, netlink.LinkSetUp(l))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBridgeNetwork(t *testing.T) {
	if !apart(t) {
		return
	}
	hnstest.TestNetwork(t, func(t *testing.T) hns.Network {
		t.Cleanup(func() { nothing(t) })
		return session(t, t.TempDir())
	}, hns.HNSEndpoint{VirtualNetwork: hns.Bridge})
}

func create(t *testing.T, n hns.Network, e hns.HNSEndpoint) *hns.HNSEndpoint {
	t.Helper()
	made, err := n.CreateEndpoint(t.Context(), &e)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestBridgeAddresses(t *testing.T) {
	if !apart(t) {
		return
	}
	dir := t.TempDir()
	n := hns.OpenDir(dir)
	show := func(e *hns.HNSEndpoint) string {
		return fmt.Sprintf("%v/%d %s %s", e.IPAddress, e.PrefixLength, e.GatewayAddress, e.MacAddress)
	}
	first := create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge})
	if got := show(first); got != "10.214.0.2/20 10.214.0.1 02-B9-0A-D6-00-02" {
		t.Errorf("got %s", got)
	}
	if got := show(create(t, n, hns.HNSEndpoint{VirtualNetworkName: hns.Bridge})); got != "10.214.0.3/20 10.214.0.1 02-B9-0A-D6-00-03" {
		t.Errorf("got %s", got)
	}
	if now, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err != nil || string(now) != "1\n" {
		t.Errorf("the host does not forward: %q, %v", now, err)
	}
	// An address is given out again when it is free.
	if err := n.RemoveEndpoint(t.Context(), first.Id); err != nil {
		t.Fatal(err)
	}
	again := create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge, MacAddress: "02-00-00-00-00-01"})
	if got := show(again); got != "10.214.0.2/20 10.214.0.1 02-00-00-00-00-01" {
		t.Errorf("got %s", got)
	}
	dual := create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge, IPConfigs: []hns.IPConfig{{IPAddress: net.ParseIP("fd00::4"), PrefixLength: 64}}})
	if got := show(dual); got != "10.214.0.4/20 10.214.0.1 02-B9-0A-D6-00-04" || len(dual.IPConfigs) != 1 {
		t.Errorf("got %s, %v", got, dual.IPConfigs)
	}
	makeBridge(t, "br1", "192.0.2.9/28")
	makeBridge(t, "br2", "")
	if got := show(create(t, n, hns.HNSEndpoint{VirtualNetwork: "bridge:br1"})); got != "192.0.2.1/28 192.0.2.9 02-B9-C0-00-02-01" {
		t.Errorf("got %s", got)
	}
	given := create(t, n, hns.HNSEndpoint{VirtualNetwork: "bridge:br2", IPAddress: net.ParseIP("fd00::2"), PrefixLength: 64, GatewayAddress: "fd00::1"})
	if got := show(given); !strings.HasPrefix(got, "fd00::2/64 fd00::1 ") {
		t.Errorf("got %s", got)
	}
	policy := func(p any) []json.RawMessage { return []json.RawMessage{hns.NewPolicy(p)} }
	for _, tt := range []struct {
		name string
		e    hns.HNSEndpoint
		want error
	}{
		{"no such bridge", hns.HNSEndpoint{VirtualNetwork: "bridge:br3"}, hns.ErrNotFound},
		{"no bridge", hns.HNSEndpoint{VirtualNetwork: "bridge:lo"}, nil},
		{"no name", hns.HNSEndpoint{VirtualNetwork: "bridge:"}, hns.ErrNotSupported},
		{"two names", hns.HNSEndpoint{VirtualNetwork: hns.Bridge, VirtualNetworkName: "nat"}, hns.ErrNotSupported},
		{"bridge without address", hns.HNSEndpoint{VirtualNetwork: "bridge:br2"}, nil},
		{"loopback", hns.HNSEndpoint{VirtualNetwork: hns.Bridge, Policies: policy(hns.PolicyHostLoopback)}, hns.ErrNotSupported},
		{"ports that this host does not reach", hns.HNSEndpoint{VirtualNetwork: "bridge:br2", IPAddress: net.IPv4(192, 0, 2, 200), PrefixLength: 24,
			Policies: policy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "TCP", InternalPort: 1, ExternalPort: 1})}, hns.ErrNotSupported},
		{"ports of IPv6, which this host has not on its own bridge", hns.HNSEndpoint{VirtualNetwork: hns.Bridge, IPAddress: net.ParseIP("fd00::9"), PrefixLength: 64,
			Policies: policy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "TCP", InternalPort: 1, ExternalPort: 1})}, hns.ErrNotSupported},
		{"other network", hns.HNSEndpoint{VirtualNetwork: hns.Bridge, IPAddress: net.IPv4(10, 1, 0, 1), PrefixLength: 24}, nil},
		{"the bridge's address", hns.HNSEndpoint{VirtualNetwork: hns.Bridge, IPAddress: net.IPv4(10, 214, 0, 1)}, hns.ErrAlreadyExists},
		{"address in use", hns.HNSEndpoint{VirtualNetwork: hns.Bridge, IPAddress: net.IPv4(10, 214, 0, 2)}, hns.ErrAlreadyExists},
		{"second address in use", hns.HNSEndpoint{VirtualNetwork: hns.Bridge, IPConfigs: dual.IPConfigs}, hns.ErrAlreadyExists},
		{"MAC address in use", hns.HNSEndpoint{VirtualNetwork: hns.Bridge, MacAddress: "02:00:00:00:00:01"}, hns.ErrAlreadyExists},
		{"half a port", hns.HNSEndpoint{VirtualNetwork: hns.Bridge, Policies: policy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "TCP", InternalPort: 1})}, nil},
	} {
		if _, err := n.CreateEndpoint(t.Context(), &tt.e); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	all, err := n.Endpoints(t.Context())
	if err != nil || len(all) != 5 {
		t.Errorf("got %d endpoints, %v, want 5", len(all), err)
	}
	for _, e := range all {
		if err := n.RemoveEndpoint(t.Context(), e.Id); err != nil {
			t.Error(err)
		}
	}
	nothing(t)

	// What the host uses is not used again, and what others have made is left.
	makeBridge(t, "other", "10.214.5.1/24")
	e := create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge})
	if got := e.GatewayAddress; got != "10.215.0.1" {
		t.Errorf("got gateway %s", got)
	}
	if err := n.RemoveEndpoint(t.Context(), e.Id); err != nil {
		t.Fatal(err)
	}
	makeBridge(t, "byre0", "")
	if _, err := n.CreateEndpoint(t.Context(), &hns.HNSEndpoint{VirtualNetwork: hns.Bridge}); !errors.Is(err, hns.ErrAlreadyExists) {
		t.Errorf("got %v, want %v", err, hns.ErrAlreadyExists)
	}
	if err := link("byre0", func(netlink.Link) error { return nil }); err != nil {
		t.Error(err)
	}
	if _, err := os.ReadFile(dir + "/state"); err != nil {
		t.Error(err)
	}
}

// A guest is who has the other end of a tap.
type guest struct {
	*testing.T
	nic *hns.NIC
	mac net.HardwareAddr
	ip  net.IP
}

func openGuest(t *testing.T, n hns.Network, e *hns.HNSEndpoint) *guest {
	t.Helper()
	nic, err := n.(hns.Opener).OpenNIC(t.Context(), e.Id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nic.Close(); err != nil {
			t.Error(err)
		}
	})
	mac, err := net.ParseMAC(nic.MAC)
	if err != nil {
		t.Fatal(err)
	}
	if !nic.Tap || nic.MTU != 1500 {
		t.Errorf("got %+v", nic)
	}
	return &guest{t, nic, mac, e.IPAddress.To4()}
}

const vnetHeader = 10

// ask asks who has an address, as somebody.
func (g *guest) ask(from, mac net.HardwareAddr, ip, who net.IP) {
	g.Helper()
	g.askBy(nil, from, mac, ip, who)
}

// tagged asks on VLAN 7.
func (g *guest) tagged(from, mac net.HardwareAddr, ip, who net.IP) {
	g.Helper()
	g.askBy([]byte{0x81, 0, 0, 7}, from, mac, ip, who)
}

// try asks, but does not mind if its tap takes nothing.
func (g *guest) try(from, mac net.HardwareAddr, ip, who net.IP) {
	g.nic.Link.Write(question(nil, from, mac, ip, who))
}

func (g *guest) askBy(tag []byte, from, mac net.HardwareAddr, ip, who net.IP) {
	g.Helper()
	if _, err := g.nic.Link.Write(question(tag, from, mac, ip, who)); err != nil {
		g.Fatal(err)
	}
}

func question(tag []byte, from, mac net.HardwareAddr, ip, who net.IP) []byte {
	f := make([]byte, vnetHeader, 100)
	f = append(f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	f = append(f, from...)
	f = append(f, tag...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(f, mac...)
	f = append(f, ip.To4()...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	return append(f, who.To4()...)
}

// frame waits for a frame of ARP to this guest or to all.
func (g *guest) frame() []byte {
	g.Helper()
	buf := make([]byte, 70000)
	g.nic.Link.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		k, err := g.nic.Link.Read(buf)
		if err != nil {
			g.Fatal(err)
		}
		f := buf[vnetHeader:k]
		if len(f) < 42 {
			continue
		}
		switch binary.BigEndian.Uint16(f[12:]) {
		case unix.ETH_P_ARP:
			return f
		case unix.ETH_P_8021Q:
			g.Errorf("got a frame of another VLAN: %x", f)
		}
	}
}

func TestBridgeFrames(t *testing.T) {
	if !apart(t) {
		return
	}
	n := session(t, t.TempDir())
	a := openGuest(t, n, create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge}))
	b := openGuest(t, n, create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge}))
	gateway := net.IPv4(10, 214, 0, 1)
	other, alien := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.IPv4(10, 214, 0, 77)
	// What is not the guest's own does not pass; what is gets its answer, the
	// first that comes.
	a.ask(other, a.mac, a.ip, gateway)
	a.ask(a.mac, other, a.ip, gateway)
	a.ask(a.mac, a.mac, alien, gateway)
	a.tagged(a.mac, a.mac, a.ip, b.ip)
	a.ask(a.mac, a.mac, b.ip, gateway)
	a.ask(a.mac, a.mac, a.ip, gateway)
	f := a.frame()
	if f[21] != 2 || !bytes.Equal(f[:6], a.mac) || !net.IP(f[38:42]).Equal(a.ip) || !net.IP(f[28:32]).Equal(gateway) {
		t.Errorf("got %x", f)
	}
	f = b.frame() // they see each other
	if !bytes.Equal(f[6:12], a.mac) || !net.IP(f[28:32]).Equal(a.ip) {
		t.Errorf("got %x", f)
	}
	// Two that may not.
	c := openGuest(t, n, create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge, DisableICC: true}))
	d := openGuest(t, n, create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge, DisableICC: true}))
	c.ask(c.mac, c.mac, c.ip, d.ip)
	a.ask(a.mac, a.mac, a.ip, d.ip)
	if f := d.frame(); !bytes.Equal(f[6:12], a.mac) {
		t.Errorf("the first frame is of %v", net.HardwareAddr(f[6:12]))
	}
	for _, g := range []*guest{a, b, c, d} {
		for range 2 {
			if err := g.nic.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	nothing(t)
}

// IPv6 of an endpoint that has an address of it: its own, and what finds
// neighbours, but nothing that speaks for another or makes it a router.
func TestBridgeIPv6(t *testing.T) {
	if !apart(t) {
		return
	}
	n := session(t, t.TempDir())
	makeBridge(t, "br6", "192.0.2.1/24")
	six, other := net.ParseIP("fd00::6"), net.ParseIP("fd00::7")
	a := openGuest(t, n, create(t, n, hns.HNSEndpoint{VirtualNetwork: "bridge:br6", MacAddress: "02-B9-00-00-00-0A",
		IPConfigs: []hns.IPConfig{{IPAddress: six, PrefixLength: 64}}}))
	b := openGuest(t, n, create(t, n, hns.HNSEndpoint{VirtualNetwork: "bridge:br6"}))
	local := net.ParseIP("fe80::b9:ff:fe00:a") // that of the MAC address
	const nextICMP, hopByHop, options = 58, 0, 60
	router := net.ParseIP("fe80::1")
	for i, f := range []struct {
		source net.IP
		first  byte // header after that of IPv6
		icmp   byte
		target net.IP
		passes bool
	}{
		{other, nextICMP, 128, nil, false},
		{router, nextICMP, 135, router, false},
		{local, nextICMP, 134, nil, false}, // a router's
		{six, nextICMP, 134, nil, false},
		{six, options, 134, nil, false},
		{local, nextICMP, 137, nil, false},
		{six, nextICMP, 128, nil, true},
		{local, nextICMP, 128, nil, false},
		{six, hopByHop, 128, nil, true},
		{local, nextICMP, 135, other, true},
		{six, nextICMP, 135, router, true},
		// Who has an address, only its owner says.
		{local, nextICMP, 136, other, false},
		{six, nextICMP, 136, other, false},
		{six, options, 136, other, false},
		{local, hopByHop, 136, router, false},
		{six, nextICMP, 136, router, false},
		{six, nextICMP, 136, six, true},
		{local, nextICMP, 136, six, true},
		{six, nextICMP, 136, local, true},
		// Bridges that ask hear in which groups it is.
		{local, hopByHop, 143, nil, true},
		{local, hopByHop, 131, nil, true},
		{router, hopByHop, 143, nil, false},
	} {
		payload := append([]byte{f.icmp, byte(i), 0, 0, 0, 0, 0, 0}, make([]byte, 16)...)
		copy(payload[8:], f.target)
		if f.first != nextICMP {
			payload = append([]byte{nextICMP, 0, 1, 4, 0, 0, 0, 0}, payload...)
		}
		for _, last := range []bool{false, true} {
			source, kind := f.source, f.first
			if last { // one that passes, so that it is known what did not
				source, kind, payload = six, nextICMP, append([]byte{129, byte(i), 0, 0}, make([]byte, 20)...)
			}
			frame := make([]byte, vnetHeader, 150)
			frame = append(frame, 0x33, 0x33, 0, 0, 0, 1)
			frame = append(frame, a.mac...)
			frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(payload)), kind, 255)
			frame = append(frame, source.To16()...)
			frame = append(frame, net.IPv6linklocalallnodes...)
			if _, err := a.nic.Link.Write(append(frame, payload...)); err != nil {
				t.Fatal(err)
			}
		}
		passed := false
		buf := make([]byte, 2000)
		b.nic.Link.SetReadDeadline(time.Now().Add(10 * time.Second))
		for {
			k, err := b.nic.Link.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			got := buf[vnetHeader:k]
			if !bytes.Equal(got[6:12], a.mac) {
				continue
			}
			if got[20] == nextICMP && got[54] == 129 {
				break
			}
			passed = true
		}
		if passed != f.passes {
			t.Errorf("type %d from %v about %v after header %d: passed %v, want %v", f.icmp, f.source, f.target, f.first, passed, f.passes)
		}
	}
}

// A process that is killed leaves no tap; the rules and the bridge go with the
// next change that anybody makes.
func TestBridgeKilled(t *testing.T) {
	if !apart(t) {
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBridgeOfAnother$")
	cmd.Env = append(os.Environ(), "BYRE_TEST_BRIDGE="+dir)
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
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	taps := func() (n int) {
		links, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if l.Type() == "tuntap" {
				n++
			}
		}
		return n
	}
	if got := taps(); got != 1 {
		t.Errorf("got %d taps, want 1", got)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if got := taps(); got != 0 {
		t.Errorf("got %d taps of a dead process", got)
	}
	if _, err := hns.OpenDir(dir).Endpoints(t.Context()); err != nil {
		t.Error(err)
	}
	nothing(t)
}

// TestBridgeOfAnother is the process that TestBridgeKilled kills.
func TestBridgeOfAnother(t *testing.T) {
	dir := os.Getenv("BYRE_TEST_BRIDGE")
	if dir == "" {
		return
	}
	n := session(t, dir)
	openGuest(t, n, create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge}))
	os.Stdout.Write([]byte("."))
	io.Copy(io.Discard, os.Stdin)
}

// What fails when a NIC is opened leaves nothing behind.
func TestBridgeNICFails(t *testing.T) {
	if !apart(t) {
		return
	}
	n := session(t, t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	e := create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge, Policies: []json.RawMessage{
		hns.NewPolicy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "TCP", InternalPort: 80, ExternalPort: port}),
	}})
	if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
		t.Fatal(err)
	}
	open := func() error {
		nic, err := n.(hns.Opener).OpenNIC(t.Context(), e.Id)
		if err == nil {
			err = nic.Close()
		}
		return err
	}
	if err := open(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want %v", err, syscall.EADDRINUSE)
	}
	l.Close()
	// The name of the tap is taken.
	name := hns.TapName(e.Id)
	if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TUN}); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil {
		t.Error("a tap of a name that is taken was made")
	}
	if err := link(name, netlink.LinkDel); err != nil {
		t.Fatal(err)
	}
	if err := open(); err != nil {
		t.Error(err)
	}
	// Somebody has removed the bridge.
	if err := link("byre0", netlink.LinkDel); err != nil {
		t.Fatal(err)
	}
	if err := open(); !errors.Is(err, hns.ErrNotFound) {
		t.Errorf("got %v, want %v", err, hns.ErrNotFound)
	}
	// The next endpoint makes it again.
	create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge})
	if err := open(); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	nothing(t)
}
