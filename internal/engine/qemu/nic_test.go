//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/hns/hnstest"
	"github.com/byrevm/byre/internal/place"
)

const adapterID = "99999999-0000-4000-8000-0000000000%02x"

// links is a network whose NICs have nobody at the other end.
type links struct {
	*hnstest.Network
	fail error
}

func (l *links) OpenNIC(_ context.Context, id string) (*hns.NIC, error) {
	if l.fail != nil {
		return nil, l.fail
	}
	_, theirs, err := socketpair("nic")
	if err != nil {
		return nil, err
	}
	return &hns.NIC{Link: theirs, MTU: 1500, MAC: "02:00:00:00:00:" + id}, nil
}

// adapters asks QEMU for the MAC addresses of its adapters, by their places.
func adapters(t *testing.T, s *system) (found []string) {
	t.Helper()
	for i, n := range s.nics.slots {
		if n == nil {
			continue
		}
		var mac string
		err := s.qmp.Execute(t.Context(), "qom-get", map[string]any{"path": "/machine/peripheral/" + n.id(), "property": "mac"}, &mac)
		if err != nil {
			t.Errorf("adapter %s: %v", n.name, err)
		}
		found = append(found, fmt.Sprint(i, " ", strings.ToLower(mac)))
	}
	return found
}

// Without a guest no adapter can be removed: it has to let go of it. The tests
// that boot do that.
func TestNICs(t *testing.T) {
	s := running(t)
	l := &links{Network: hnstest.New()}
	s.network = l
	add := func(n int, a hcsschema.NetworkAdapter) error {
		return modify(t.Context(), s, hcsschema.Add, hcs.NetworkPath(fmt.Sprintf(adapterID, n)), a)
	}
	for n := range place.MaxNetwork {
		mac := ""
		if n == 1 {
			mac = "02-00-00-00-00-FF"
		}
		if err := add(n, hcsschema.NetworkAdapter{EndpointId: fmt.Sprintf("%02x", n), MacAddress: mac}); err != nil {
			t.Fatalf("adapter %d: %v", n, err)
		}
	}
	got := adapters(t, s)
	if len(got) != place.MaxNetwork || got[0] != "0 02:00:00:00:00:00" || got[1] != "1 02:00:00:00:00:ff" {
		t.Errorf("got %v", got)
	}
	for _, tt := range []struct {
		name string
		id   int
		a    hcsschema.NetworkAdapter
		want error
	}{
		{"path in use", 3, hcsschema.NetworkAdapter{EndpointId: "aa"}, hcs.ErrAlreadyExists},
		{"MAC address in use", 99, hcsschema.NetworkAdapter{EndpointId: "03"}, hcs.ErrAlreadyExists},
		{"no place", 99, hcsschema.NetworkAdapter{EndpointId: "aa"}, hcs.ErrNotSupported},
		{"no endpoint", 99, hcsschema.NetworkAdapter{}, nil},
		{"MAC address", 99, hcsschema.NetworkAdapter{EndpointId: "aa", MacAddress: "01-00-00-00-00-01"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := add(tt.id, tt.a); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if err := modify(t.Context(), s, hcsschema.Remove, hcs.NetworkPath(fmt.Sprintf(adapterID, 99)), nil); !errors.Is(err, hcs.ErrNotFound) {
		t.Errorf("got %v, want %v", err, hcs.ErrNotFound)
	}
}

// What fails leaves nothing: neither here nor in QEMU.
func TestNICFailures(t *testing.T) {
	s := running(t)
	path := hcs.NetworkPath(fmt.Sprintf(adapterID, 1))
	a := hcsschema.NetworkAdapter{EndpointId: "01"}
	s.network = hnstest.New()
	if err := modify(t.Context(), s, hcsschema.Add, path, a); !errors.Is(err, hcs.ErrNotSupported) {
		t.Errorf("a network without NICs: got %v, want %v", err, hcs.ErrNotSupported)
	}
	l := &links{Network: hnstest.New()}
	s.network = l
	for _, tt := range []struct{ fail, want error }{
		{hns.ErrNotFound, hcs.ErrNotFound}, {hns.ErrAlreadyExists, hcs.ErrAlreadyExists}, {hns.ErrNotSupported, hcs.ErrNotSupported}, {net.ErrClosed, net.ErrClosed},
	} {
		l.fail = tt.fail
		if err := modify(t.Context(), s, hcsschema.Add, path, a); !errors.Is(err, tt.want) {
			t.Errorf("got %v, want %v", err, tt.want)
		}
	}
	l.fail = nil
	id := "nic-" + fmt.Sprintf(adapterID, 1)
	taken := map[string]any{"driver": "pci-testdev", "id": id, "bus": bridgeID("nic", 0), "addr": "0x1f"}
	if err := s.qmp.Execute(t.Context(), "device_add", taken, nil); err != nil {
		t.Fatal(err)
	}
	if err := modify(t.Context(), s, hcsschema.Add, path, a); err == nil {
		t.Error("a device of an id that is in use was added")
	}
	for _, n := range s.nics.slots {
		if n != nil {
			t.Errorf("adapter %s has still a place", n.name)
		}
	}
	// The back-end is gone: its name is free.
	other := hcs.NetworkPath(fmt.Sprintf(adapterID, 2))
	if err := modify(t.Context(), s, hcsschema.Add, other, a); err != nil {
		t.Error(err)
	}
	err := s.qmp.Execute(t.Context(), "netdev_add", map[string]any{"type": "hubport", "id": "net-" + fmt.Sprintf(adapterID, 1), "hubid": 1}, nil)
	if err != nil {
		t.Errorf("the back-end of what failed is still there: %v", err)
	}
}

func TestCheckAdapter(t *testing.T) {
	for _, id := range []string{"", "x", "../x"} {
		if checkAdapter(id, &hcsschema.NetworkAdapter{EndpointId: "e"}) == nil {
			t.Errorf("id %q is accepted", id)
		}
	}
	for s, want := range map[string]string{
		"00-15-5D-52-C0-01": "00:15:5d:52:c0:01", "00:15:5d:52:c0:01": "00:15:5d:52:c0:01",
		"": "", "00-00-00-00-00-00": "", "ff-ff-ff-ff-ff-ff": "", "00-15-5D-52-C0": "", "00-15-5D-52-C0-01-02-03": "",
	} {
		if got, err := parseMAC(s); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", s, got, err, want)
		}
	}
}
