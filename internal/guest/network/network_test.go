//go:build linux

package network

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcsschema"
)

func TestResolvConf(t *testing.T) {
	for _, c := range []struct {
		d    DNS
		want string
	}{
		{DNS{}, ""},
		{DNS{Search: []string{"a", "b"}, Servers: []string{"1.1.1.1", "::1"}}, "search a b\nnameserver 1.1.1.1\nnameserver ::1\n"},
	} {
		if got, err := c.d.ResolvConf(); got != c.want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, c.want)
		}
	}
	if _, err := (DNS{Search: make([]string, maxSearch+1)}).ResolvConf(); err == nil {
		t.Error("too many search domains are accepted")
	}
}

func TestHosts(t *testing.T) {
	if got := Hosts("name"); !strings.HasPrefix(got, "127.0.0.1 localhost\n127.0.0.1 name\n::1 localhost") {
		t.Errorf("got %q", got)
	}
	if got := Hosts("localhost"); strings.Count(got, "127.0.0.1") != 1 {
		t.Errorf("got %q", got)
	}
}

func TestNamespaces(t *testing.T) {
	var n Namespaces
	a := hcsschema.LCOWNetworkAdapter{NamespaceID: "NS-1", ID: "A", DNSSuffix: "x.y, z", DNSServerList: "1.1.1.1,2.2.2.2"}
	b := hcsschema.LCOWNetworkAdapter{NamespaceID: "ns-1", ID: "b", DNSSuffix: "z", DNSServerList: "2.2.2.2,3.3.3.3"}
	if err := errors.Join(n.Add(a), n.Add(b)); err != nil {
		t.Fatal(err)
	}
	again := a
	again.ID = "a"
	if err := n.Add(again); !errors.Is(err, ErrAdapter) {
		t.Errorf("twice: got %v, want %v", err, ErrAdapter)
	}
	d, err := n.DNS("ns-1")
	if got, want := fmt.Sprint(d, err), "{[x.y z] [1.1.1.1 2.2.2.2 3.3.3.3]} <nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := errors.Join(n.Remove(again), n.Remove(again), n.Remove(b)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.DNS("NS-1"); !errors.Is(err, ErrNoNamespace) {
		t.Errorf("got %v, want %v", err, ErrNoNamespace)
	}
	for _, bad := range []hcsschema.LCOWNetworkAdapter{
		{}, {ID: "a"}, {NamespaceID: "n"}, {ID: "a\n", NamespaceID: "n"},
		{ID: "a", NamespaceID: "n", DNSSuffix: "x\nnameserver 6.6.6.6"}, {ID: "a", NamespaceID: "n", DNSServerList: strings.Repeat("1", 2000)},
	} {
		if n.Add(bad) == nil {
			t.Errorf("%.80v is accepted", bad)
		}
	}
	for i := range maxAdapters + 1 {
		err := n.Add(hcsschema.LCOWNetworkAdapter{NamespaceID: "full", ID: fmt.Sprint(i)})
		if (err != nil) != (i == maxAdapters) {
			t.Errorf("adapter %d: got %v", i, err)
		}
	}
}

func TestLoopbackUp(t *testing.T) {
	runtime.LockOSThread() // not unlocked: the thread is of no other use
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("no network namespace: %v", err)
	}
	if err := LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 9}); err != nil {
		t.Errorf("loopback is not up: %v", err)
	}
}
