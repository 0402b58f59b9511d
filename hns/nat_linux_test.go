package hns_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hns"
)

// Linux behind a NIC of nat: both families, packets of its MTU, ports.
func TestNATGuest(t *testing.T) {
	if !apart(t) {
		return
	}
	n := session(t, t.TempDir())
	four, err4 := echo(t, "127.0.0.1:0")
	six, err6 := echo(t, "[::1]:0")
	if err := errors.Join(err4, err6); err != nil {
		t.Fatal(err)
	}
	var published [2]int
	e := hns.HNSEndpoint{
		IPConfigs: []hns.IPConfig{{IPAddress: net.ParseIP("fd00:b::2"), PrefixLength: 64}},
		Policies:  []json.RawMessage{hns.NewPolicy(hns.PolicyHostLoopback)},
	}
	for i, p := range []string{"TCP", "UDP"} {
		u, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		published[i] = u.LocalAddr().(*net.UDPAddr).Port
		u.Close()
		e.Policies = append(e.Policies, hns.NewPolicy(hns.PortPolicy{Type: hns.PolicyNAT, Protocol: p, InternalPort: 7, ExternalPort: uint16(published[i])}))
	}
	made := create(t, n, e)
	nic, err := n.(hns.Opener).OpenNIC(t.Context(), made.Id)
	if err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, nic, made)
	large := strings.Repeat("large ", 10000) // in one packet
	for _, address := range []string{fmt.Sprintf("%s:%d", made.GatewayAddress, four), fmt.Sprintf("[%s]:%d", made.Routes[0].NextHop, six)} {
		for _, network := range []string{"tcp", "udp"} {
			for _, text := range []string{"small", large} {
				if err := k.in(func() error { return said(network, address, text) }); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if err := k.in(func() error { _, err := echo(t, ":7"); return err }); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"small", large} {
		if err := errors.Join(said("tcp", fmt.Sprintf("127.0.0.1:%d", published[0]), text), said("udp", fmt.Sprintf("127.0.0.1:%d", published[1]), text)); err != nil {
			t.Errorf("published: %v", err)
		}
	}
	// The loopback is the gateway's only, and nothing of the links is reached.
	for _, to := range []string{"169.254.169.254:80", "[fd00:ec2::254]:80"} {
		if err := k.in(func() error { return said("tcp", to, "x") }); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: got %v, want %v", to, err, unix.ECONNREFUSED)
		}
	}
}

// Two Linux on byre's own bridge reach each other and the host, by both
// families: what finds neighbours passes the filter.
func TestBridgeGuests(t *testing.T) {
	if !apart(t) {
		return
	}
	n := session(t, t.TempDir())
	var kernels []kernel
	var ends []*hns.HNSEndpoint
	for i := range 2 {
		six := hns.IPConfig{IPAddress: net.ParseIP(fmt.Sprintf("fd00:c::%d", 2+i)), PrefixLength: 64}
		e := create(t, n, hns.HNSEndpoint{VirtualNetwork: hns.Bridge, IPConfigs: []hns.IPConfig{six}})
		nic, err := n.(hns.Opener).OpenNIC(t.Context(), e.Id)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, e)
		kernels = append(kernels, newKernel(t, nic, e))
	}
	if err := kernels[1].in(func() error {
		_, err := echo(t, ":7")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	port, err := echo(t, "10.214.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("large ", 10000)
	for _, address := range []string{ends[1].IPAddress.String() + ":7", "[fd00:c::3]:7", fmt.Sprintf("10.214.0.1:%d", port)} {
		for _, network := range []string{"tcp", "udp"} {
			if err := kernels[0].in(func() error { return errors.Join(said(network, address, "small"), said(network, address, large)) }); err != nil {
				t.Error(err)
			}
		}
	}
}
