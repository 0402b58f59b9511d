//go:build linux

package network

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestResolvConf(t *testing.T) {
	for _, c := range []struct {
		d    DNS
		want string
	}{
		{DNS{}, ""},
		{DNS{Search: []string{"a", "b"}, Servers: []string{"1.1.1.1", "::1"}}, "search a b\nnameserver 1.1.1.1\nnameserver ::1\n"},
		{DNS{Search: strings.Fields("a b c d e f g h")}, "search a b c d e f g h\n"},
		{DNS{Servers: []string{"1.1.1.1"}}, "nameserver 1.1.1.1\n"},
	} {
		if got := c.d.ResolvConf(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
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

func TestMoreHosts(t *testing.T) {
	if got, err := MoreHosts("10.0.0.1\ta.b\n\nFD00::1 c_d-e\n"); got != "10.0.0.1 a.b\nfd00::1 c_d-e\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"x", "x y", "10.0.0.1", "10.0.0.1 a b", "10.0.0.1 a#", "fe80::1%1 a", strings.Repeat("10.0.0.1 a\n", maxHosts+1)} {
		if got, err := MoreHosts(bad); err == nil {
			t.Errorf("%.80q: got %.80q", bad, got)
		}
	}
}

func TestLoopbackUp(t *testing.T) {
	runtime.LockOSThread() // not unlocked: the thread is of no other use
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("no network namespace: %v", err)
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
