package uvm_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hns"
)

// TestNotOvertaken calls an Add off that the guest is working on: what undoes
// it must not come before it, or the guest keeps the adapter.
func TestNotOvertaken(t *testing.T) {
	v := start(t, setup{})
	if err := v.AddNetNS(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	removed := make(chan struct{})
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		switch add := strings.Contains(string(c.Document), `"Add"`); {
		case c.Op != guestModify:
		case add:
			cancel()
			select { // a guest that takes its time
			case <-removed:
			case <-time.After(200 * time.Millisecond):
			}
		default:
			close(removed)
		}
		return nil
	})
	if err := v.AddEndpointsToNS(ctx, "ns", []*hns.HNSEndpoint{endpoint("a")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if err := v.RemoveNetNS(t.Context(), "ns"); err != nil {
		t.Error(err)
	}
	v.empty()
}

// TestVPMEMCalledOff calls the host's half of an Add off where persistent
// memory stays in its slot: it may be there, so that no other file gets it.
func TestVPMEMCalledOff(t *testing.T) {
	v := start(t, setup{})
	a, b := v.disk("a"), v.disk("b")
	ctx, cancel := context.WithCancel(t.Context())
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op != hcstest.OpModify {
			return nil
		}
		cancel()
		return ctx.Err()
	})
	if _, err := v.AddVPMEM(ctx, a); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	v.hook.set(nil)
	v.addLayer(b, 1)
	v.addLayer(a, 0)
	v.removeLayer(a)
	v.removeLayer(b)
}

// TestNICCalledOff calls the host's half of an Add of an adapter off: the next
// one has the same id, so that it waits for what the host still does.
func TestNICCalledOff(t *testing.T) {
	v := start(t, setup{})
	if err := v.AddNetNS(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op != hcstest.OpModify {
			return nil
		}
		cancel()
		return ctx.Err()
	})
	one := []*hns.HNSEndpoint{endpoint("a")}
	if err := v.AddEndpointsToNS(ctx, "ns", one); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	v.hook.set(nil)
	for range 2 {
		if err := errors.Join(v.AddEndpointsToNS(t.Context(), "ns", one), v.RemoveEndpointsFromNS(t.Context(), "ns", one)); err != nil {
			t.Error(err)
		}
	}
	var ids []string
	for _, s := range v.since() {
		if strings.HasPrefix(s, "host Add ") {
			ids = append(ids, s)
		}
	}
	if len(ids) != 3 || ids[0] != ids[1] || ids[1] == ids[2] {
		t.Errorf("adapters %s", ids)
	}
	if err := v.RemoveNetNS(t.Context(), "ns"); err != nil {
		t.Error(err)
	}
	v.empty()
}
