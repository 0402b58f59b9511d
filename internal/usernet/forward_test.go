package usernet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// The guest of a Forwarder is one that this host reaches: here itself.
func TestForward(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	tcp := echoTCP(t, listen(t, "127.0.0.1:0"))
	udp := echoUDP(t, listenPacket(t, "127.0.0.1:0"))
	hostTCP, hostUDP := freePort(t), netip.MustParseAddrPort(listenPacketClosed(t))
	f, err := Forward(loopback, []Port{{TCP, hostTCP, tcp.Port()}, {UDP, hostUDP, udp.Port()}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", hostTCP.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	echoes(t, c.(*net.TCPConn), 1<<20)
	for range 2 {
		u, err := net.Dial("udp", hostUDP.String())
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		u.SetDeadline(time.Now().Add(10 * time.Second))
		want := u.LocalAddr().String()
		u.Write([]byte(want))
		buf := make([]byte, 100)
		if k, err := u.Read(buf); err != nil || string(buf[:k]) != want {
			t.Errorf("got %q, %v, want %q", buf[:k], err, want)
		}
	}
	open, err := net.Dial("tcp", hostTCP.String())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	open.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := open.Read(make([]byte, 1)); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want the end of the connection", err)
	}
	if _, err := net.Dial("tcp", hostTCP.String()); err == nil {
		t.Error("the port is still published")
	}

	// All ports, or none.
	taken := listen(t, "127.0.0.1:0")
	first := freePort(t)
	_, err = Forward(loopback, []Port{{TCP, first, 1}, {TCP, netip.MustParseAddrPort(taken.Addr().String()), 2}})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want %v", err, syscall.EADDRINUSE)
	}
	if _, err := net.Dial("tcp", first.String()); err == nil {
		t.Error("a port of what failed is published")
	}
}

func TestHostServers(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	local := file("local", "search x\nnameserver 127.0.0.53\nnameserver ::1\n")
	real := file("real", "# c\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver x\nnameserver fd00::1\n")
	defer func(before []string) { hostFiles = before }(hostFiles)
	for _, tt := range []struct{ files, want []string }{
		{[]string{local, real}, []string{"192.0.2.1", "fd00::1"}},
		{[]string{real, local}, []string{"192.0.2.1", "fd00::1"}},
		{[]string{local, dir + "/none"}, nil},
	} {
		hostFiles = tt.files
		if got := HostServers(); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.files, got, tt.want)
		}
	}
}
