//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hns"
)

// apart runs the test in a process that has a network namespace, mounts and a
// /run of its own, and reports whether this is that process.
func apart(t *testing.T) bool {
	t.Helper()
	const env = "BYRE_TEST_APART"
	if os.Getenv(env) == t.Name() {
		err := errors.Join(
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("run", "/run", "tmpfs", 0, ""),
			link("lo", netlink.LinkSetUp),
			os.MkdirAll("/run/byre/.network/cni/results", 0o700), // which stay, once there
		)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hns.Host().Endpoints(t.Context()); err != nil {
			t.Fatal(err)
		}
		free(t, "tcp") // what the net package finds out once, it is to find out here
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
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

func up(name, address string) error {
	return link(name, func(l netlink.Link) error {
		a, err := netlink.ParseAddr(address)
		if err == nil {
			err = netlink.AddrAdd(l, a)
		}
		return errors.Join(err, netlink.LinkSetUp(l))
	})
}

// The world outside: a network namespace that knows this one by the address
// inside only. It serves outside at port 80, by HTTP, and port 7, which answers
// datagrams.
const inside, outside = "198.51.100.2", "198.51.100.1"

func world(t *testing.T) {
	t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "world0"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	if err := up("up0", inside+"/24"); err != nil {
		t.Fatal(err)
	}
	made, moved, done := make(chan error), make(chan struct{}), make(chan error)
	var web net.Listener
	var echo net.PacketConn
	tid := 0
	go func() {
		runtime.LockOSThread() // not unlocked
		tid = unix.Gettid()
		made <- unix.Unshare(unix.CLONE_NEWNET)
		<-moved
		err := up("world0", outside+"/24")
		if err == nil {
			web, err = net.Listen("tcp", outside+":80")
		}
		if err == nil {
			echo, err = net.ListenPacket("udp", outside+":7")
		}
		done <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	err := link("world0", func(l netlink.Link) error { return netlink.LinkSetNsPid(l, tid) })
	close(moved)
	if err = errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) })}
	go server.Serve(web)
	go func() {
		buf := make([]byte, 1500)
		for {
			k, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			echo.WriteTo(append([]byte(from.String()+" "), buf[:k]...), from)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		echo.Close()
	})
}

// cniConf makes a CNI configuration "lab": a bridge lab0, both families.
func cniConf(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("NETCONFPATH", dir)
	t.Setenv("CNI_PATH", "/opt/cni/bin:/usr/lib/cni")
	conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"lab","plugins":[{"type":"bridge","bridge":"lab0","isGateway":true,"mtu":1400,
		"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"192.0.2.0/24"}],[{"subnet":"fd00:1ab::/64"}]],
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]},"dns":{"nameservers":["192.0.2.53"],"search":["lab.test"]}},
		{"type":"portmap","capabilities":{"portMappings":true}}]}`, filepath.Join(dir, "ipam"))
	if err := os.WriteFile(filepath.Join(dir, "lab.conflist"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leases, err := filepath.Glob(filepath.Join(dir, "ipam", "*", "*[.:]*[.:]*"))
		if err != nil || len(leases) != 0 {
			t.Errorf("addresses are taken: %v, %v", leases, err)
		}
		if err := link("lab0", netlink.LinkDel); err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) {
			t.Error(err)
		}
	})
}

// remaining returns the devices of containers that there are.
func remaining(t *testing.T, prefixes ...string) (names []string) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		for _, p := range prefixes {
			if strings.HasPrefix(l.Attrs().Name, p) {
				names = append(names, l.Attrs().Name)
			}
		}
	}
	return names
}

// web asks an address over HTTP until it answers with what is wanted.
func web(ctx context.Context, t *testing.T, address, want string) {
	t.Helper()
	r, err := http.Get("http://" + address)
	if err != nil {
		t.Error(err)
		return
	}
	defer r.Body.Close()
	if b, err := io.ReadAll(r.Body); err != nil || string(b) != want {
		t.Errorf("%s: got %q, %v, want %q", address, b, err, want)
	}
}
