//go:build linux

package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/uvm"
)

// Containers on a bridge and on what CNI plugins make, in one VM: several
// namespaces, each with its NICs, of both families.
func TestNetworkKinds(t *testing.T) {
	if !apart(t) {
		return
	}
	ctx := begin(t)
	world(t)
	cniConf(t)
	n := session(t)
	img := open(ctx, t, testImage(t))
	o := options(t)
	o.Network = n
	vm := boot(ctx, t, o)
	tcp, udp := free(t, "tcp"), free(t, "udp")
	bridged := hns.HNSEndpoint{
		VirtualNetwork: hns.Bridge, DNSSuffix: "byre.test", DNSServerList: "192.0.2.99",
		IPConfigs: []hns.IPConfig{{IPAddress: net.ParseIP("fd00:b41d::2"), PrefixLength: 64}},
		Policies: []json.RawMessage{
			hns.NewPolicy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "TCP", InternalPort: 80, ExternalPort: tcp}),
			hns.NewPolicy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "UDP", InternalPort: 7, ExternalPort: udp}),
		},
	}
	one, ends := namespace(ctx, t, n, bridged, hns.HNSEndpoint{VirtualNetwork: hns.NAT})
	two, labEnds := another(ctx, t)
	a := connected(ctx, t, vm, img, n, one)
	b := connected(ctx, t, vm, img, n, two)

	step(t, "interfaces", func(ctx context.Context, t *testing.T) {
		got := do(ctx, t, a, "ip -o addr; ip route; cat /etc/resolv.conf /sys/class/net/eth0/mtu /sys/class/net/eth1/mtu /sys/class/net/eth0/address")
		for _, want := range []string{
			"eth0    inet 10.214.0.2/20", "eth0    inet6 fd00:b41d::2/64", "eth1    inet 10.213.0.2/28",
			"default via 10.214.0.1 dev eth0", "search byre.test\n", "nameserver 192.0.2.99\n", "\n1500\n65520\n02:b9:0a:d6:00:02\n",
		} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("no %q in\n%s%s", want, got.stdout, got.stderr)
			}
		}
		got = do(ctx, t, b, "ip -o addr; ip route; ip -6 route; cat /etc/resolv.conf /sys/class/net/eth0/mtu /sys/class/net/eth0/address; ls /sys/class/net")
		mac := strings.ToLower(strings.ReplaceAll(labEnds[0].MacAddress, "-", ":"))
		for _, want := range []string{
			"eth0    inet 192.0.2.2/24", "eth0    inet6 fd00:1ab::2/64", "default via 192.0.2.1 dev eth0",
			"default via fd00:1ab::1 dev eth0", "search lab.test\n", "nameserver 192.0.2.53\n", "\n1400\n" + mac + "\neth0\nlo\n",
		} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("no %q in\n%s%s", want, got.stdout, got.stderr)
			}
		}
	})
	step(t, "outbound by the bridge", func(ctx context.Context, t *testing.T) {
		got := do(ctx, t, a, "wget -q -O - http://"+outside+"/; echo; /t/net ask "+outside+":7 hello; ping -c 1 -W 10 10.214.0.1 >/dev/null && echo pong")
		lines := strings.Split(got.stdout, "\n")
		if len(lines) < 3 || !strings.HasPrefix(lines[0], inside+":") || !strings.HasPrefix(lines[1], inside+":") ||
			!strings.HasSuffix(got.stdout, "hellopong\n") {
			t.Errorf("got %+v, want to be masqueraded as %s", got, inside)
		}
	})
	step(t, "outbound by the interface of CNI", func(ctx context.Context, t *testing.T) {
		const large = 3000000                 // bytes, each way, by an MTU of 1400
		l, err := net.Listen("tcp", "[::]:0") // of the bridge that the plugin has made
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/large" {
				w.Write(make([]byte, large))
				return
			}
			fmt.Fprintln(w, r.RemoteAddr)
		})}
		go server.Serve(l)
		defer server.Close()
		port := l.Addr().(*net.TCPAddr).Port
		got := do(ctx, t, b, fmt.Sprintf("wget -q -O - http://192.0.2.1:%d/ 'http://[fd00:1ab::1]:%d/'; wget -q -O - http://192.0.2.1:%d/large | wc -c; "+
			"mkdir /www && head -c %d /dev/zero >/www/large && httpd -p 80 -h /www", port, port, port, large))
		lines := strings.Split(got.stdout, "\n")
		if len(lines) < 3 || !strings.HasPrefix(lines[0], "192.0.2.2:") || !strings.HasPrefix(lines[1], "[fd00:1ab::2]:") ||
			strings.TrimSpace(lines[2]) != fmt.Sprint(large) || got.code != 0 {
			t.Errorf("got %+v", got)
		}
		r, err := http.Get("http://192.0.2.2/large")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if got, err := io.Copy(io.Discard, r.Body); got != large || err != nil {
			t.Errorf("got %d bytes, %v, want %d", got, err, large)
		}
	})
	serve := func(ctx context.Context, t *testing.T) {
		t.Helper()
		if got := do(ctx, t, a, "mkdir -p /www && echo -n container >/www/index.html && httpd -p 80 -h /www; "+
			"/t/net echo 7 </dev/null >/tmp/echo 2>&1 & while ! grep -q ready /tmp/echo; do sleep 0.1; done"); got.code != 0 {
			t.Fatalf("got %+v", got)
		}
	}
	step(t, "published", func(ctx context.Context, t *testing.T) {
		serve(ctx, t)
		web(ctx, t, fmt.Sprintf("127.0.0.1:%d/index.html", tcp), "container")
		u, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", udp))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		buf := make([]byte, 100)
		u.Write([]byte("datagram"))
		u.SetReadDeadline(time.Now().Add(20 * time.Second))
		if k, err := u.Read(buf); err != nil || string(buf[:k]) != "datagram" {
			t.Errorf("got %q, %v", buf[:k], err)
		}
	})
	step(t, "come and go", func(ctx context.Context, t *testing.T) {
		for range 2 {
			if err := vm.RemoveEndpointsFromNS(ctx, one, ends[:1]); err != nil {
				t.Fatal(err)
			}
			if err := vm.RemoveEndpointsFromNS(ctx, two, labEnds); err != nil {
				t.Fatal(err)
			}
			links, err := netlink.LinkList()
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range links {
				if l.Type() == "tuntap" {
					t.Errorf("tap %s is left", l.Attrs().Name)
				}
			}
			if err := vm.AddEndpointsToNS(ctx, two, labEnds); err != nil {
				t.Fatal(err)
			}
			if err := vm.AddEndpointsToNS(ctx, one, ends[:1]); err != nil {
				t.Fatal(err)
			}
		}
		web(ctx, t, fmt.Sprintf("127.0.0.1:%d/index.html", tcp), "container")
		if got := do(ctx, t, b, "ping -c 1 -W 10 192.0.2.1 && ping -c 1 -W 10 fd00:1ab::1"); got.code != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// another has a process make a namespace with an endpoint of CNI and end: both
// are there for the next one.
func another(ctx context.Context, t *testing.T) (id string, made []*hns.HNSEndpoint) {
	t.Helper()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestNetworkOfAnother$")
	cmd.Env = append(os.Environ(), "BYRE_TEST_MAKE=cni:lab")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	id, _, _ = strings.Cut(string(out), "\n")
	n := hns.Host()
	if made, err = hns.NamespaceEndpoints(ctx, n, id); err != nil || len(made) != 1 {
		t.Fatalf("got %v, %v, want the one of a process that has ended", made, err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		ends := uvm.NetworkEndpoints{Namespace: id, EndpointIDs: []string{made[0].Id}}
		for range 2 {
			if err := ends.Release(ctx); err != nil {
				t.Error(err)
			}
		}
		if err := n.RemoveEndpoint(ctx, made[0].Id); err != nil {
			t.Error(err)
		}
	})
	return id, made
}

// TestNetworkOfAnother is the process of another.
func TestNetworkOfAnother(t *testing.T) {
	network := os.Getenv("BYRE_TEST_MAKE")
	if network == "" {
		return
	}
	id, _ := namespace(t.Context(), t, hns.Host(), hns.HNSEndpoint{VirtualNetwork: network})
	fmt.Println(id)
}

// What byre run makes of --network, and what is left of one that is killed.
func TestRunNetworkKinds(t *testing.T) {
	if !apart(t) {
		return
	}
	ctx := begin(t)
	world(t)
	cniConf(t)
	cmd := byre(ctx, t, "run", "--network", "bridge", "-p", "8080-8081:80-81", "--add-host", "me:host-gateway", testImage(t), "sh", "-c",
		"grep me /etc/hosts; mkdir /www; echo -n published >/www/i; httpd -p 81 -h /www; wget -q -O - http://"+outside+"/; echo; exec sleep 600")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{"10.214.0.1 me", inside + ":"} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Fatalf("got %q, %v, want %q", lines.Text(), lines.Err(), want)
		}
	}
	web(ctx, t, "127.0.0.1:8081/i", "published")
	if got := remaining(t, "byre"); len(got) != 2 {
		t.Errorf("got %v, want a bridge and a tap", got)
	}
	cmd.Process.Signal(syscall.SIGKILL)
	io.Copy(io.Discard, out)
	cmd.Wait()
	// The next run takes away what is left: the bridge. And it has a port
	// published by the plugins.
	got := call(t, byre(ctx, t, "run", "--network", "cni:lab", "-p", "8082:80", testImage(t), "sh", "-c",
		"ip -o addr show eth0; cat /etc/resolv.conf; ping -c 1 -W 10 192.0.2.1"))
	if got.code != 0 || !strings.Contains(got.stdout, "inet 192.0.2.2/24") || !strings.Contains(got.stdout, "nameserver 192.0.2.53") {
		t.Errorf("got %+v", got)
	}
	if got := remaining(t, "byre", "veth"); len(got) != 0 {
		t.Errorf("%v are left", got)
	}
	got = call(t, byre(ctx, t, "run", "--network", "cni:nowhere", testImage(t), "true"))
	if got.code != 125 || !strings.Contains(got.stderr, "nowhere") {
		t.Errorf("got %+v", got)
	}
	absent := `{"cniVersion":"1.0.0","name":"absent","plugins":[{"type":"bridge","bridge":"lab1"},{"type":"no-such-plugin"}]}`
	if err := os.WriteFile(filepath.Join(os.Getenv("NETCONFPATH"), "absent.conflist"), []byte(absent), 0o600); err != nil {
		t.Fatal(err)
	}
	got = call(t, byre(ctx, t, "run", "--network", "cni:absent", testImage(t), "true"))
	if got.code != 125 || !strings.Contains(got.stderr, `plugin "no-such-plugin": not found in`) {
		t.Errorf("got %+v", got)
	}
	if got := remaining(t, "byre", "veth", "lab1"); len(got) != 0 {
		t.Errorf("%v are left", got)
	}
}
