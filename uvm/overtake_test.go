package uvm_test

import (
	"context"
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
	if err := v.AddEndpointsToNS(ctx, "ns", []*hns.HNSEndpoint{endpoint("a")}); err != nil {
		t.Errorf("what the guest has done in the end: got %v, want nil", err)
	}
	if err := v.RemoveNetNS(t.Context(), "ns"); err != nil {
		t.Error(err)
	}
	v.empty()
}
