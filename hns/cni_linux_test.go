package hns_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/hns/hnstest"
)

// probe is a plugin that writes down how it is called. A file fail-ADD or
// fail-DEL beside it makes it fail, and a pipe block-ADD makes it wait.
const probe = `#!/bin/sh
dir=$(dirname "$0")
in=$(cat)
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}'; exit ;;
esac
echo "$CNI_COMMAND $CNI_CONTAINERID" >>"$dir/log"
echo "$in" >"$dir/in-$CNI_COMMAND"
if [ -p "$dir/block-$CNI_COMMAND" ]; then cat "$dir/block-$CNI_COMMAND"; fi
if [ -e "$dir/fail-$CNI_COMMAND" ]; then echo '{"cniVersion":"1.0.0","code":100,"msg":"the probe fails"}'; exit 1; fi
echo '{"cniVersion":"1.0.0","dns":{"nameservers":["192.0.2.53","192.0.2.54"],"search":["lab.test","x.test"]}}'
`

// A lab has the configurations of the tests.
type lab struct {
	*testing.T
	dir string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t, t.TempDir()}
	t.Setenv("NETCONFPATH", filepath.Join(l.dir, "conf"))
	t.Setenv("CNI_PATH", l.dir+":/usr/lib/cni")
	if err := os.Mkdir(filepath.Join(l.dir, "conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	ipam := func(ranges string) string {
		return fmt.Sprintf(`"ipam":{"type":"host-local","dataDir":%q,%s}`, filepath.Join(l.dir, "ipam"), ranges)
	}
	const two = `"ranges":[[{"subnet":"192.0.2.0/24"}],[{"subnet":"fd00::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"198.51.100.0/24","gw":"192.0.2.9"},{"dst":"::/0"}]`
	const one = `"ranges":[[{"subnet":"203.0.113.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]`
	for name, text := range map[string]string{
		"conf/10-lab.conflist": `{"cniVersion":"1.0.0","name":"lab","plugins":[
			{"type":"bridge","bridge":"lab0","isGateway":true,"mtu":1400,` + ipam(two) + `},{"type":"probe","capabilities":{"portMappings":true}}]}`,
		"conf/20-ptp.conf":        `{"cniVersion":"0.4.0","name":"ptp","type":"ptp",` + ipam(one) + `}`,
		"conf/30-lo.conflist":     `{"cniVersion":"1.0.0","name":"none","plugins":[{"type":"probe"}]}`,
		"conf/40-absent.conflist": `{"cniVersion":"1.0.0","name":"absent","plugins":[{"type":"probe"},{"type":"no-such-plugin"}]}`,
		"conf/50-noipam.conflist": `{"cniVersion":"1.0.0","name":"noipam","plugins":[{"type":"bridge","bridge":"lab0","ipam":{"type":"no-such-plugin"}}]}`,
		"probe":                   probe,
	} {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := link("lab0", netlink.LinkDel); err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
			t.Error(err)
		}
	})
	return l
}

// calls are the calls of the probe since the last one of this.
func (l *lab) calls() string {
	b, err := os.ReadFile(filepath.Join(l.dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		l.Fatal(err)
	}
	os.Remove(filepath.Join(l.dir, "log"))
	return strings.TrimSpace(string(b))
}

func (l *lab) fail(command string) {
	if err := os.WriteFile(filepath.Join(l.dir, "fail-"+command), nil, 0o600); err != nil {
		l.Fatal(err)
	}
}

func (l *lab) work(command string) { os.Remove(filepath.Join(l.dir, "fail-"+command)) }

// nothing checks that a network in a folder has nothing left of CNI, nor the
// host.
func (l *lab) nothing(dir string) {
	l.Helper()
	for _, d := range []string{"spaces", "busy", "nics", "cni/results"} {
		if left, err := os.ReadDir(filepath.Join(dir, d)); err != nil && !os.IsNotExist(err) || len(left) != 0 {
			l.Errorf("%s: %v, %v is left", d, left, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || bytes.Contains(mounts, []byte("nsfs")) {
		l.Errorf("namespaces are mounted: %v\n%s", err, mounts)
	}
	links, err := netlink.LinkList()
	if err != nil {
		l.Fatal(err)
	}
	for _, link := range links {
		if link.Type() == "veth" {
			l.Errorf("%s is left", link.Attrs().Name)
		}
	}
	leases, err := filepath.Glob(filepath.Join(l.dir, "ipam", "*", "*.*.*.*"))
	if err != nil || len(leases) != 0 {
		l.Errorf("addresses are taken: %v, %v", leases, err)
	}
	nothing(l.T)
}

func TestCNINetwork(t *testing.T) {
	if !apart(t) {
		return
	}
	l := newLab(t)
	hnstest.TestNetwork(t, func(t *testing.T) hns.Network {
		dir := t.TempDir()
		t.Cleanup(func() { l.nothing(dir) })
		return session(t, dir)
	}, hns.HNSEndpoint{VirtualNetwork: "cni:ptp"})
}

func TestCNIEndpoint(t *testing.T) {
	if !apart(t) {
		return
	}
	l, dir := newLab(t), t.TempDir()
	n := hns.OpenDir(dir)
	e := create(t, n, hns.HNSEndpoint{VirtualNetwork: "cni:lab"})
	got := fmt.Sprintf("%v/%d %v %s %s %s %+v", e.IPAddress, e.PrefixLength, e.IPConfigs, e.GatewayAddress, e.DNSServerList, e.DNSSuffix, e.Routes)
	want := "192.0.2.2/24 [{fd00::2 64}] 192.0.2.1 192.0.2.53,192.0.2.54 lab.test,x.test " +
		"[{NextHop:192.0.2.9 DestinationPrefix:198.51.100.0/24 Metric:0} {NextHop:fd00::1 DestinationPrefix:::/0 Metric:1024}]"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := l.calls(); got != "ADD "+e.Id {
		t.Errorf("got %s", got)
	}
	// Another caller sees it and connects it, twice.
	other := hns.OpenDir(dir)
	seen, err := other.Endpoint(t.Context(), e.Id)
	if err != nil || seen.MacAddress != e.MacAddress || len(seen.IPConfigs) != 1 || len(seen.Routes) != 2 {
		t.Errorf("got %+v, %v", seen, err)
	}
	for range 2 {
		nic, err := other.(hns.Opener).OpenNIC(t.Context(), e.Id)
		if err != nil {
			t.Fatal(err)
		}
		if !nic.Tap || nic.MTU != 1400 || !strings.EqualFold(strings.ReplaceAll(e.MacAddress, "-", ":"), nic.MAC) {
			t.Errorf("got %+v, want the MAC address %s", nic, e.MacAddress)
		}
		mac, _ := net.ParseMAC(nic.MAC)
		g := &guest{t, nic, mac, e.IPAddress.To4()}
		g.ask(mac, mac, g.ip, net.IPv4(192, 0, 2, 1))
		if f := g.frame(); f[21] != 2 || !net.IP(f[28:32]).Equal(net.IPv4(192, 0, 2, 1)) {
			t.Errorf("got %x", f)
		}
		if err := nic.Close(); err != nil {
			t.Error(err)
		}
	}
	// Removed while it has a NIC: the NIC can be closed all the same.
	nic, err := n.(hns.Opener).OpenNIC(t.Context(), e.Id)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveEndpoint(t.Context(), e.Id); err != nil {
		t.Error(err)
	}
	if err := nic.Close(); err != nil {
		t.Error(err)
	}
	if got := l.calls(); got != "DEL "+e.Id {
		t.Errorf("got %s", got)
	}
	l.nothing(dir)

	// The interface of ptp has its neighbours behind the gateway, and the
	// configuration says nothing of names.
	e = create(t, n, hns.HNSEndpoint{VirtualNetworkName: "cni:ptp", DNSServerList: "192.0.2.7"})
	got = fmt.Sprintf("%v/%d %v %s %s %+v", e.IPAddress, e.PrefixLength, e.IPConfigs, e.GatewayAddress, e.DNSServerList, e.Routes)
	want = "203.0.113.2/32 [] 203.0.113.1 192.0.2.7 [{NextHop:203.0.113.1 DestinationPrefix:203.0.113.0/24 Metric:0} {NextHop: DestinationPrefix:203.0.113.1/32 Metric:0}]"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := n.RemoveEndpoint(t.Context(), e.Id); err != nil {
		t.Error(err)
	}
	l.nothing(dir)

	// Ports are the business of the plugins that can publish them.
	port := hns.NewPolicy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "UDP", InternalPort: 80, ExternalPort: 8080})
	e = create(t, n, hns.HNSEndpoint{VirtualNetwork: "cni:lab", Policies: append(e.Policies, port)})
	in, err := os.ReadFile(filepath.Join(l.dir, "in-ADD"))
	if err != nil || !bytes.Contains(in, []byte(`"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"udp","hostIP":"127.0.0.1"}]}`)) {
		t.Errorf("got %s, %v", in, err)
	}
	if err := n.RemoveEndpoint(t.Context(), e.Id); err != nil {
		t.Error(err)
	}
	l.nothing(dir)
}

func TestCNIFails(t *testing.T) {
	if !apart(t) {
		return
	}
	l, dir := newLab(t), t.TempDir()
	n, ctx := hns.OpenDir(dir), t.Context()
	lab := hns.HNSEndpoint{VirtualNetwork: "cni:lab"}
	for _, tt := range []struct {
		name  string
		e     hns.HNSEndpoint
		want  error
		calls int
	}{
		{"no configuration", hns.HNSEndpoint{VirtualNetwork: "cni:nowhere"}, hns.ErrNotFound, 0},
		{"no name", hns.HNSEndpoint{VirtualNetwork: "cni:"}, hns.ErrNotSupported, 0},
		{"name", hns.HNSEndpoint{VirtualNetwork: "cni:../x"}, nil, 0},
		{"address", hns.HNSEndpoint{VirtualNetwork: "cni:lab", IPAddress: net.IPv4(192, 0, 2, 7)}, hns.ErrNotSupported, 0},
		{"MAC address", hns.HNSEndpoint{VirtualNetwork: "cni:lab", MacAddress: "02-00-00-00-00-01"}, hns.ErrNotSupported, 0},
		{"loopback", hns.HNSEndpoint{VirtualNetwork: "cni:lab", Policies: append(lab.Policies, hns.NewPolicy(hns.PolicyHostLoopback))}, hns.ErrNotSupported, 0},
		{"ports", hns.HNSEndpoint{VirtualNetwork: "cni:ptp", Policies: append(lab.Policies,
			hns.NewPolicy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "TCP", InternalPort: 80, ExternalPort: 80}))}, hns.ErrNotSupported, 0},
		{"namespace", hns.HNSEndpoint{VirtualNetwork: "cni:lab", Namespace: &hns.Namespace{ID: epID}}, hns.ErrNotFound, 0},
		{"no interface", hns.HNSEndpoint{VirtualNetwork: "cni:none"}, nil, 2},
		// The first of its chain does not run either.
		{"no plugin", hns.HNSEndpoint{VirtualNetwork: "cni:absent"}, hns.ErrNotFound, 0},
		{"no plugin for addresses", hns.HNSEndpoint{VirtualNetwork: "cni:noipam"}, hns.ErrNotFound, 0},
	} {
		if _, err := n.CreateEndpoint(ctx, &tt.e); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if got := l.calls(); len(strings.Fields(got)) != 2*tt.calls {
			t.Errorf("%s: got %s", tt.name, got)
		}
	}
	none := func() {
		t.Helper()
		if all, err := n.Endpoints(ctx); err != nil || len(all) != 0 {
			t.Errorf("got %v, %v, want nothing", all, err)
		}
	}
	none()
	l.nothing(dir)

	l.fail("ADD")
	_, err := n.CreateEndpoint(ctx, &lab)
	if err == nil || !strings.Contains(err.Error(), "the probe fails") {
		t.Errorf("got %v", err)
	}
	if got := strings.Fields(l.calls()); len(got) != 4 || got[0] != "ADD" || got[2] != "DEL" || got[1] != got[3] {
		t.Errorf("got %s", got)
	}
	l.work("ADD")
	none()
	l.nothing(dir)

	// A call that is given up does not wait for the plugin.
	if err := unix.Mkfifo(filepath.Join(l.dir, "block-ADD"), 0o600); err != nil {
		t.Fatal(err)
	}
	called, cancel := context.WithCancel(ctx)
	go func() {
		w, err := os.OpenFile(filepath.Join(l.dir, "block-ADD"), os.O_WRONLY, 0) // the plugin waits from then on
		cancel()
		if err == nil {
			defer w.Close()
			io.Copy(io.Discard, w)
		}
	}()
	if _, err := n.CreateEndpoint(called, &lab); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	os.Remove(filepath.Join(l.dir, "block-ADD"))
	none()
	l.calls()
	l.nothing(dir)

	// What cannot be removed is still there, and can be removed again.
	e := create(t, n, lab)
	l.fail("DEL")
	if err := n.RemoveEndpoint(ctx, e.Id); err == nil || !strings.Contains(err.Error(), "the probe fails") {
		t.Errorf("got %v", err)
	}
	if _, err := n.Endpoint(ctx, e.Id); err != nil {
		t.Error(err)
	}
	l.work("DEL")
	if err := n.RemoveEndpoint(ctx, e.Id); err != nil {
		t.Error(err)
	}
	l.nothing(dir)

	// So it is with a session.
	s := session(t, dir)
	e = create(t, s, lab)
	l.fail("DEL")
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "the probe fails") {
		t.Errorf("got %v", err)
	}
	if _, err := n.Endpoint(ctx, e.Id); !errors.Is(err, hns.ErrNotFound) {
		t.Errorf("got %v, want %v", err, hns.ErrNotFound)
	}
	if _, err := n.CreateEndpoint(ctx, &hns.HNSEndpoint{Id: e.Id}); !errors.Is(err, hns.ErrAlreadyExists) {
		t.Errorf("got %v, want %v", err, hns.ErrAlreadyExists)
	}
	session(t, dir) // a session of somebody else does not mind
	l.work("DEL")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	l.nothing(dir)
}

// What a process that is killed has made, or was about to make, is removed when
// the next session begins.
func TestCNIKilled(t *testing.T) {
	if !apart(t) {
		return
	}
	l, dir := newLab(t), t.TempDir()
	run := func(block bool) (cmd *exec.Cmd, out io.Reader) {
		cmd = exec.Command(os.Args[0], "-test.run=^TestCNIOfAnother$")
		cmd.Env = append(os.Environ(), "BYRE_TEST_CNI="+dir, fmt.Sprint("BYRE_TEST_BLOCK=", block))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, out
	}
	cmd, out := run(false)
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	session(t, dir)
	if got := l.calls(); len(strings.Fields(got)) != 2 {
		t.Errorf("got %s, want one ADD, as the process lives", got)
	}
	cmd.Process.Kill()
	cmd.Wait()
	session(t, dir)
	if got := strings.Fields(l.calls()); len(got) != 2 || got[0] != "DEL" {
		t.Errorf("got %s", got)
	}
	l.nothing(dir)

	if err := unix.Mkfifo(filepath.Join(l.dir, "block-ADD"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, _ = run(true)
	w, err := os.OpenFile(filepath.Join(l.dir, "block-ADD"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	w.Close()
	session(t, dir)
	got := strings.Fields(l.calls())
	if len(got) != 4 || got[0] != "ADD" || got[2] != "DEL" {
		t.Errorf("got %s", got)
	}
	l.nothing(dir)
	if s, err := os.ReadFile(filepath.Join(dir, "state")); err != nil || slices.Contains(got, "") || bytes.Contains(s, []byte("lab")) {
		t.Errorf("got %s, %v", s, err)
	}
}

// TestCNIOfAnother is the process that TestCNIKilled kills.
func TestCNIOfAnother(t *testing.T) {
	dir := os.Getenv("BYRE_TEST_CNI")
	if dir == "" {
		return
	}
	n := session(t, dir)
	e := create(t, n, hns.HNSEndpoint{VirtualNetwork: "cni:lab"})
	if _, err := n.(hns.Opener).OpenNIC(t.Context(), e.Id); err != nil {
		t.Fatal(err)
	}
	os.Stdout.Write([]byte("."))
	select {}
}
