//go:build linux

package test

import (
	"context"
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

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/uvm"
)

// session begins a session in the host's network for the test.
func session(t *testing.T) hns.Session {
	t.Helper()
	s, err := hns.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing the session: %v", err)
		}
	})
	return s
}

func namespace(ctx context.Context, t *testing.T, n hns.Network, endpoints ...hns.HNSEndpoint) (id string, made []*hns.HNSEndpoint) {
	t.Helper()
	ns, err := n.CreateNamespace(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range endpoints {
		e.Namespace = &hns.Namespace{ID: ns.Id}
		m, err := n.CreateEndpoint(ctx, &e)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, m)
	}
	return ns.Id, made
}

// connected makes a container that idles in a network namespace.
// It has testdata/net at /t/net.
func connected(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, img *container.Image, n hns.Network, id string) *container.Container {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "net"), "./testdata/net")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	spec, err := container.NewSpec(img, container.SpecOptions{Args: []string{"sleep", "100000"}})
	if err != nil {
		t.Fatal(err)
	}
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/t", Type: "bind", Source: dir, Options: []string{"bind", "ro"}})
	spec.Windows = &specs.Windows{Network: &specs.WindowsNetwork{NetworkNamespace: id}}
	c, err := container.Create(ctx, vm, container.Config{Spec: spec, Layers: img.Layers(), Network: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	if err := c.Init().Start(ctx); err != nil {
		t.Fatal(err)
	}
	return c
}

// webOnLoopback serves "hello from the host" on the loopback and returns its port.
func webOnLoopback(t *testing.T) int {
	t.Helper()
	return webOn(t, "127.0.0.1:0")
}

func webOn(t *testing.T, address string) int {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello from the host") })}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// echoUDP answers datagrams on the loopback with what they say, twice.
func echoUDP(t *testing.T) int {
	t.Helper()
	return echoOn(t, "127.0.0.1:0")
}

func echoOn(t *testing.T, address string) int {
	t.Helper()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			k, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(append(buf[:k:k], buf[:k]...), from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).Port
}

func free(t *testing.T, network string) uint16 {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return uint16(c.LocalAddr().(*net.UDPAddr).Port)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// A container in the user-mode network: the host's loopback where a policy
// opens it, published ports, names, both families, adapters that come and go.
func TestNetwork(t *testing.T) {
	ctx := begin(t)
	n := session(t)
	img := open(ctx, t, testImage(t))
	o := options(t)
	o.Network = n
	vm := boot(ctx, t, o)
	web, echo := webOnLoopback(t), echoUDP(t)
	tcp, udp := free(t, "tcp"), free(t, "udp")
	four := hns.HNSEndpoint{IPConfigs: []hns.IPConfig{{IPAddress: net.ParseIP("fd62:7972:66::2"), PrefixLength: 64}}}
	four.Policies = append(four.Policies, hns.NewPolicy(hns.PolicyHostLoopback),
		hns.NewPolicy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "TCP", InternalPort: 80, ExternalPort: tcp}),
		hns.NewPolicy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: "UDP", InternalPort: 7, ExternalPort: udp}))
	six := hns.HNSEndpoint{IPAddress: net.ParseIP("fd62:7972:65::2"), PrefixLength: 64}
	id, made := namespace(ctx, t, n, four, six)
	c := connected(ctx, t, vm, img, n, id)
	gateway := made[0].GatewayAddress

	step(t, "interfaces", func(ctx context.Context, t *testing.T) {
		got := do(ctx, t, c, "ip -o addr; ip route; ip -6 route; cat /etc/resolv.conf; cat /sys/class/net/eth0/mtu")
		for _, want := range []string{
			"lo    inet 127.0.0.1/8", "eth0    inet 10.213.", "/28 ", "eth0    inet6 fd62:7972:66::2/64", "eth1    inet6 fd62:7972:65::2/64",
			"default via fd62:7972:66::1 dev eth0",
			"default via " + gateway + " dev eth0", "default via fd62:7972:65::1 dev eth1",
			"nameserver " + gateway + "\n", "nameserver fd62:7972:65::1\n", "\n65520\n",
		} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("no %q in\n%s%s", want, got.stdout, got.stderr)
			}
		}
	})
	step(t, "outbound", func(ctx context.Context, t *testing.T) {
		got := do(ctx, t, c, fmt.Sprintf("wget -q -O - http://%s:%d/", gateway, web))
		if got.stdout != "hello from the host" {
			t.Errorf("got %+v", got)
		}
		got = do(ctx, t, c, fmt.Sprintf("/t/net ask %s:%d ab", gateway, echo))
		if got.stdout != "abab" {
			t.Errorf("UDP: got %+v", got)
		}
		got = do(ctx, t, c, fmt.Sprintf("wget -q -O - http://[fd62:7972:66::1]:%d/; /t/net ask [fd62:7972:66::1]:%d ab", webOn(t, "[::1]:0"), echoOn(t, "[::1]:0")))
		if got.stdout != "hello from the hostabab" {
			t.Errorf("IPv6: got %+v", got)
		}
		if got := do(ctx, t, c, "ping -c 1 -W 10 "+gateway+" && ping -c 1 -W 10 fd62:7972:65::1 && ping -c 1 -W 10 fd62:7972:66::1"); got.code != 0 {
			t.Errorf("ping: got %+v", got)
		}
	})
	step(t, "names", func(ctx context.Context, t *testing.T) {
		got := do(ctx, t, c, fmt.Sprintf("wget -q -O - http://host.byre.internal:%d/", web))
		if got.stdout != "hello from the host" {
			t.Errorf("got %+v", got)
		}
	})
	step(t, "out of reach", func(ctx context.Context, t *testing.T) {
		// The host's loopback where no policy opens it, and where clouds keep
		// credentials.
		for _, to := range []string{fmt.Sprintf("[fd62:7972:65::1]:%d", web), "169.254.169.254"} {
			if got := do(ctx, t, c, "wget -q -O - 'http://"+to+"/'"); got.code == 0 || !strings.Contains(got.stderr, "refused") {
				t.Errorf("%s: got %+v", to, got)
			}
		}
	})
	step(t, "published", func(ctx context.Context, t *testing.T) {
		if got := do(ctx, t, c, "mkdir -p /www && echo -n hello from the container >/www/index.html && httpd -p 80 -h /www"); got.code != 0 {
			t.Fatalf("got %+v", got)
		}
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/index.html", tcp))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if b, err := io.ReadAll(r.Body); err != nil || string(b) != "hello from the container" {
			t.Errorf("got %q, %v", b, err)
		}
		if got := do(ctx, t, c, "/t/net echo 7 </dev/null >/tmp/echo 2>&1 & while ! grep -q ready /tmp/echo; do sleep 0.1; done"); got.code != 0 {
			t.Fatalf("got %+v", got)
		}
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
		for range 3 {
			if err := vm.RemoveEndpointsFromNS(ctx, id, made[:1]); err != nil {
				t.Fatal(err)
			}
			if got := do(ctx, t, c, "ls /sys/class/net; wget -q -O - http://"+gateway+":1/"); strings.Contains(got.stdout, "eth0") || got.code == 0 {
				t.Errorf("got %+v", got)
			}
			if _, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tcp)); err == nil {
				t.Error("the port is still published")
			}
			if err := vm.AddEndpointsToNS(ctx, id, made[:1]); err != nil {
				t.Fatal(err)
			}
		}
		got := do(ctx, t, c, fmt.Sprintf("wget -q -O - http://%s:%d/", gateway, web))
		if got.stdout != "hello from the host" {
			t.Errorf("got %+v", got)
		}
	})
	step(t, "many", func(ctx context.Context, t *testing.T) {
		const count = 16
		id, made := namespace(ctx, t, n, make([]hns.HNSEndpoint, count)...)
		if err := vm.AddNetNS(ctx, id); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := vm.AddEndpointsToNS(ctx, id, made); err != nil {
				t.Fatal(err)
			}
			if err := vm.RemoveEndpointsFromNS(ctx, id, made); err != nil {
				t.Fatal(err)
			}
		}
		if err := vm.RemoveNetNS(ctx, id); err != nil {
			t.Fatal(err)
		}
	})
}

// What byre run makes of its flags of the network.
func TestRunNetwork(t *testing.T) {
	ctx := begin(t)
	web, port := webOnLoopback(t), free(t, "tcp")
	cmd := byre(ctx, t, "run", "--rm", "-p", fmt.Sprintf("%d:80", port), "--add-host", "me:host-gateway", "--add-host", "other:192.0.2.1",
		"--dns-search", "x.test", testImage(t), "sh", "-c",
		fmt.Sprintf("grep other /etc/hosts; grep search /etc/resolv.conf; wget -q -O - http://me:%d/; mkdir /www; echo -n published >/www/i; httpd -p 80 -h /www; echo; trap 'exit 0' TERM; echo ready; sleep 60 >/dev/null & wait", web))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const want = "192.0.2.1 other\nsearch x.test\nhello from the host\nready\n"
	got := make([]byte, len(want))
	if k, err := io.ReadFull(out, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got[:k], err, want)
	} else if r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/i", port)); err != nil {
		t.Error(err)
	} else {
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || string(b) != "published" {
			t.Errorf("got %q, %v", b, err)
		}
	}
	// The port is in use: that is said before a VM boots.
	second := call(t, byre(ctx, t, "run", "-p", fmt.Sprintf("%d:80", port), testImage(t), "true"))
	if second.code != 125 || !strings.Contains(second.stderr, "address already in use") {
		t.Errorf("got %+v", second)
	}
	unused := free(t, "udp")
	twice := call(t, byre(ctx, t, "run", "-p", fmt.Sprintf("%d:80/udp", unused), "-p", fmt.Sprintf("%d:81/udp", unused), testImage(t), "true"))
	if twice.code != 125 || !strings.Contains(twice.stderr, "address already in use") {
		t.Errorf("got %+v", twice)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	io.Copy(io.Discard, out)
	cmd.Wait()
}
