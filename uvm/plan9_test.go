package uvm_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/uvm"
)

// TestCase14Plan9 shares one folder 64 times at one place: it is attached once.
func TestCase14Plan9(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	dir := t.TempDir()
	if _, err := v.AddPlan9(ctx, dir, "", false, false, nil); err == nil {
		t.Error("shared nowhere")
	}
	var shares []*uvm.Plan9Share
	for range 64 {
		s, err := v.AddPlan9(ctx, dir, "/mnt", true, true, []string{"a", "b"})
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, s)
	}
	v.expect("host Add Plan9/Shares", "guest Add MappedDirectory /mnt")
	for _, s := range shares[1:] {
		if err := errors.Join(s.Release(ctx), v.RemovePlan9(ctx, s), s.Release(ctx)); err != nil {
			t.Error(err)
		}
	}
	v.expect() // one is still used
	for _, op := range []string{guestModify, hcstest.OpModify} {
		v.hook.fail(op)
		if err := shares[0].Release(ctx); err == nil {
			t.Error("removed")
		}
		if _, err := v.AddPlan9(ctx, dir, "/other", false, false, nil); err == nil {
			t.Error("shared")
		}
	}
	v.hook.set(nil)
	if err := errors.Join(shares[0].Release(ctx), v.RemovePlan9(ctx, shares[0])); err != nil {
		t.Error(err)
	}
	v.empty()
	for _, s := range []*uvm.Plan9Share{nil, {}} {
		if err := v.RemovePlan9(ctx, s); err != uvm.ErrNotAttached {
			t.Error(err)
		}
	}

	old := start(t, setup{
		config: hcstest.Config{Host: hcs.HostInfo{Build: 17763}},
		edit:   func(o *uvm.OptionsLCOW) { o.ID, o.KernelDirect = "old", false },
	})
	if _, err := old.AddPlan9(ctx, dir, "/mnt", true, true, []string{"a"}); !errors.Is(err, hcs.ErrNotSupported) {
		t.Error(err)
	}
	if err := old.RemovePlan9(ctx, shares[0]); err != uvm.ErrNotAttached {
		t.Error(err)
	}
}

// TestPlan9Apart shares one folder in ways that differ: none is handed out for
// another.
func TestPlan9Apart(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	dir := t.TempDir()
	type way struct {
		dir, at            string
		readOnly, restrict bool
		names              []string
	}
	ways := []way{
		{dir, "/a", false, false, nil},
		{dir, "/b", false, false, nil},
		{dir, "/a", true, false, nil},
		{dir, "/a", true, true, nil},
		{dir, "/a", true, true, []string{"x"}},
		{dir, "/a", true, true, []string{"x", "y"}},
		{dir, "/a", true, true, []string{`x" "y`}},
		{dir + "/.", "/a", false, false, nil},
	}
	same := []way{ // as the last but one
		{dir, "/a", true, true, []string{"y", "x"}},
		{dir, "/a", true, true, []string{"x", "y", "x"}},
	}
	var shares []*uvm.Plan9Share
	for _, w := range append(ways, same...) {
		s, err := v.AddPlan9(ctx, w.dir, w.at, w.readOnly, w.restrict, w.names)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, s)
	}
	if n := len(v.system().Devices()); n != len(ways) {
		t.Errorf("%d shares, want %d", n, len(ways))
	}
	for i, s := range shares {
		if err := s.Release(ctx); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	v.empty()
}

// TestPlan9Again adds a share whose last Remove has failed: the host's half
// of it is removed first.
func TestPlan9Again(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	add := func() (*uvm.Plan9Share, error) { return v.AddPlan9(ctx, t.Name(), "/mnt", false, false, nil) }
	a, err := add()
	if err != nil {
		t.Fatal(err)
	}
	v.hook.fail(hcstest.OpModify)
	if err := a.Release(ctx); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	if _, err := add(); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(func(_ context.Context, c hcstest.Call) error { // it goes, the new one does not come
		if c.Op == hcstest.OpModify && strings.Contains(string(c.Document), `"Add"`) {
			return errBoom
		}
		return nil
	})
	if _, err := add(); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	v.since()
	b, err := add()
	if err != nil {
		t.Fatal(err)
	}
	v.expect("host Add Plan9/Shares", "guest Add MappedDirectory /mnt")
	if err := a.Release(ctx); err != nil {
		t.Error(err)
	}
	v.expect() // b is still used
	if err := b.Release(ctx); err != nil {
		t.Error(err)
	}
	v.empty()
}

// TestPlan9Left has the guest refuse a share that the host does not take back:
// the next Add does.
func TestPlan9Left(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == guestModify || c.Op == hcstest.OpModify && strings.Contains(string(c.Document), `"Remove"`) {
			return errBoom
		}
		return nil
	})
	for range 2 {
		if _, err := v.AddPlan9(ctx, "dir", "/mnt", false, false, nil); err == nil {
			t.Error("shared")
		}
	}
	if n := len(v.system().Devices()); n != 1 {
		t.Errorf("%d shares", n)
	}
	v.hook.set(nil)
	s, err := v.AddPlan9(ctx, "dir", "/mnt", false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(v.system().Devices()); n != 1 {
		t.Errorf("%d shares", n)
	}
	if err := s.Release(ctx); err != nil {
		t.Error(err)
	}
	v.empty()
}
