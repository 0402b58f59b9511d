//go:build linux

package test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hns"
)

// Two VMs of two sessions on one bridge: they reach each other, none gets an
// endpoint of the other's, and one whose endpoint is removed is cut off.
func TestNetworkShared(t *testing.T) {
	if !apart(t) {
		return
	}
	ctx := begin(t)
	img := open(ctx, t, testImage(t))
	one, two := session(t), session(t)
	o := options(t)
	o.Network = one
	first := boot(ctx, t, o)
	o = options(t)
	o.Network = two
	second := boot(ctx, t, o)
	idA, endsA := namespace(ctx, t, one, hns.HNSEndpoint{VirtualNetwork: hns.Bridge}, hns.HNSEndpoint{})
	idB, endsB := namespace(ctx, t, two, hns.HNSEndpoint{VirtualNetwork: hns.Bridge})
	a := connected(ctx, t, first, img, one, idA)
	b := connected(ctx, t, second, img, two, idB)
	addressA, addressB := endsA[0].IPAddress.String(), endsB[0].IPAddress.String()

	step(t, "reach", func(ctx context.Context, t *testing.T) {
		if got := do(ctx, t, a, "ping -c 1 -W 10 "+addressB); got.code != 0 {
			t.Errorf("got %+v", got)
		}
		if got := do(ctx, t, b, "mkdir /www && head -c 3000000 /dev/zero >/www/x && httpd -p 80 -h /www"); got.code != 0 {
			t.Fatalf("got %+v", got)
		}
		if got := do(ctx, t, a, "wget -q -O - http://"+addressB+"/x | wc -c"); strings.TrimSpace(got.stdout) != "3000000" {
			t.Errorf("got %+v", got)
		}
	})
	step(t, "endpoints of the other", func(ctx context.Context, t *testing.T) {
		if err := second.AddNetNS(ctx, idA); err != nil {
			t.Fatal(err)
		}
		for _, e := range endsA {
			if err := second.AddEndpointsToNS(ctx, idA, []*hns.HNSEndpoint{e}); !errors.Is(err, hcs.ErrAlreadyExists) {
				t.Errorf("%s: got %v, want %v", e.VirtualNetwork, err, hcs.ErrAlreadyExists)
			}
		}
		if err := second.RemoveNetNS(ctx, idA); err != nil {
			t.Error(err)
		}
		if got := do(ctx, t, a, "ping -c 1 -W 10 "+addressB+" && ping -c 1 -W 10 "+endsA[1].GatewayAddress); got.code != 0 {
			t.Errorf("after that: got %+v", got)
		}
	})
	step(t, "removed in use", func(ctx context.Context, t *testing.T) {
		for _, e := range endsA {
			if err := hns.Host().RemoveEndpoint(ctx, e.Id); err != nil {
				t.Fatal(err)
			}
		}
		if got := do(ctx, t, a, "ping -c 1 -W 2 "+addressB); got.code == 0 {
			t.Errorf("the guest still has its network: got %+v", got)
		}
		next, err := two.CreateEndpoint(ctx, &hns.HNSEndpoint{VirtualNetwork: hns.Bridge, Namespace: &hns.Namespace{ID: idB}})
		if err != nil || next.IPAddress.String() != addressA {
			t.Fatalf("got %+v, %v, want the address %s", next, err, addressA)
		}
		if err := second.AddEndpointsToNS(ctx, idB, []*hns.HNSEndpoint{next}); err != nil {
			t.Fatal(err)
		}
		if got := do(ctx, t, b, "ping -c 1 -W 10 10.214.0.1"); got.code != 0 {
			t.Errorf("the next who has its address: got %+v", got)
		}
		if err := first.RemoveEndpointsFromNS(ctx, idA, endsA); err != nil {
			t.Error(err)
		}
		again, err := one.CreateEndpoint(ctx, &hns.HNSEndpoint{VirtualNetwork: hns.Bridge})
		if err != nil {
			t.Fatal(err)
		}
		if err := first.AddEndpointsToNS(ctx, idA, []*hns.HNSEndpoint{again}); err != nil {
			t.Fatal(err)
		}
		if got := do(ctx, t, a, "ping -c 1 -W 10 "+addressB); got.code != 0 {
			t.Errorf("with an endpoint of its own again: got %+v", got)
		}
	})
}
