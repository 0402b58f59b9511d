package uvm_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

const noop = uvm.VMAccessTypeNoop

// add adds a disk that must be added.
func (v *testVM) add(path, guestPath string, readOnly bool) *uvm.SCSIMount {
	v.t.Helper()
	m, err := v.AddSCSI(v.t.Context(), path, guestPath, readOnly, noop)
	if err != nil {
		v.t.Fatal(err)
	}
	return m
}

func (v *testVM) remove(path string) {
	v.t.Helper()
	if err := v.RemoveSCSI(v.t.Context(), path); err != nil {
		v.t.Error(err)
	}
}

func TestCase59SCSIShares(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	a := v.add("a", "/mnt/a", true)
	b := v.add("a", "/mnt/other", true) // shared where it is
	c := v.add("a", "", true)
	v.expect("host Add Scsi/0/Attachments/0", "guest Add MappedVirtualDisk /mnt/a")
	for _, m := range []*uvm.SCSIMount{a, b, c} {
		if m.HostPath != "a" || m.UVMPath != "/mnt/a" || m.Controller != 0 || m.LUN != 0 {
			t.Errorf("%+v", m)
		}
	}
	if p, err := v.GetScsiUvmPath(ctx, "a"); p != "/mnt/a" || err != nil {
		t.Error(p, err)
	}
	for range 3 {
		if err := a.Release(ctx); err != nil {
			t.Error(err)
		}
	}
	v.remove("a")
	v.expect()
	if err := c.Release(ctx); err != nil {
		t.Error(err)
	}
	v.expect("guest Remove MappedVirtualDisk /mnt/a", "host Remove Scsi/0/Attachments/0")
	if err := v.RemoveSCSI(ctx, "a"); err != uvm.ErrNotAttached {
		t.Error(err)
	}
	if err := b.Release(ctx); err != uvm.ErrNotAttached { // RemoveSCSI took its place
		t.Error(err)
	}
	if p, err := v.GetScsiUvmPath(ctx, "a"); p != "" || err != uvm.ErrNotAttached {
		t.Error(p, err)
	}
	v.empty()
}

func TestCase83SCSIModes(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	layer := v.disk("layer")
	v.add("a", "/mnt/a", true)
	v.add("b", "", false)
	if _, err := v.AddVPMEM(ctx, layer); err != nil {
		t.Fatal(err)
	}
	v.since()
	_, err1 := v.AddSCSI(ctx, "a", "/mnt/a", false, noop)
	_, err2 := v.AddSCSI(ctx, "b", "", true, noop)
	_, err3 := v.AddSCSIPhysicalDisk(ctx, "a", "/mnt/a", true)
	_, err4 := v.AddSCSI(ctx, layer, "/mnt/l", false, noop)
	for i, err := range []error{err1, err2, err3, err4} {
		if err != uvm.ErrAlreadyAttached {
			t.Errorf("%d: %v", i+1, err)
		}
	}
	v.expect()
	v.add(layer, "/mnt/l", true) // two that only read it are no danger
	w := v.disk("w")
	v.add(w, "", false)
	if _, err := v.AddVPMEM(ctx, w); err != uvm.ErrAlreadyAttached {
		t.Error(err)
	}
	for _, p := range []string{"a", "b", layer, w} {
		v.remove(p)
	}
	if _, err := v.AddVPMEM(ctx, w); err != nil {
		t.Errorf("a disk that was removed is still claimed: %v", err)
	}
	if err := errors.Join(v.RemoveVPMEM(ctx, w), v.RemoveVPMEM(ctx, layer)); err != nil {
		t.Error(err)
	}
	v.empty()
}

// TestCase60SCSIMountsLater mounts a disk that was attached without a mount.
func TestCase60SCSIMountsLater(t *testing.T) {
	v := start(t, setup{})
	if m := v.add("a", "", true); m.UVMPath != "" {
		t.Errorf("%+v", m)
	}
	v.hook.fail(guestModify)
	if _, err := v.AddSCSI(t.Context(), "a", "/mnt/a", true, noop); err == nil {
		t.Error("mounted")
	}
	v.hook.set(nil)
	if m := v.add("a", "/mnt/a", true); m.UVMPath != "/mnt/a" {
		t.Errorf("%+v", m)
	}
	v.remove("a")
	v.expect("host Add Scsi/0/Attachments/0", "guest Add MappedVirtualDisk /mnt/a", "guest Add MappedVirtualDisk /mnt/a")
	v.remove("a")
	v.expect("guest Remove MappedVirtualDisk /mnt/a", "host Remove Scsi/0/Attachments/0")
	v.empty()
}

// TestSCSIGrants checks whom access is given to, and that it is given once.
func TestSCSIGrants(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	for _, x := range []struct {
		access uvm.VMAccessType
		want   string
	}{{uvm.VMAccessTypeNoop, ""}, {uvm.VMAccessTypeGroup, "1"}, {uvm.VMAccessTypeIndividual, "0"}} {
		before := len(v.engine.Calls())
		for range 2 {
			if _, err := v.AddSCSI(ctx, "a", "", true, x.access); err != nil {
				t.Error(err)
			}
		}
		var got string
		for _, c := range v.engine.Calls()[before:] {
			if c.Op == hcstest.OpGrantAccess {
				got += string(c.Document)
			}
		}
		if got != x.want {
			t.Errorf("access %d: granted %q, want %q", x.access, got, x.want)
		}
		v.remove("a")
		v.remove("a")
	}
	v.since()
	if _, err := v.AddSCSI(ctx, "a", "", true, 7); err == nil {
		t.Error("granted an unknown access")
	}
	v.hook.fail(hcstest.OpGrantAccess)
	if _, err := v.AddSCSIPhysicalDisk(ctx, "a", "", true); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	v.expect("grant a")
	v.empty()
}

func TestCase11SCSIFull(t *testing.T) {
	for name, c := range map[string]struct {
		edit  func(*uvm.OptionsLCOW)
		slots int
		full  error
	}{
		"none": {func(o *uvm.OptionsLCOW) { o.SCSIControllerCount = 0 }, 0, uvm.ErrNoSCSIControllers},
		"one":  {nil, 64, uvm.ErrTooManyAttachments},
		"all":  {func(o *uvm.OptionsLCOW) { o.AllSCSIControllers = true }, 256, uvm.ErrNoAvailableLocation},
	} {
		t.Run(name, func(t *testing.T) {
			v := start(t, setup{edit: c.edit})
			for i := range c.slots {
				m := v.add(fmt.Sprint(i), "", false)
				if m.Controller != i/64 || int(m.LUN) != i%64 {
					t.Fatalf("disk %d is at %d:%d", i, m.Controller, m.LUN)
				}
			}
			for range 2 {
				if _, err := v.AddSCSI(t.Context(), "x", "", false, noop); err != c.full {
					t.Errorf("got %v, want %v", err, c.full)
				}
			}
			want := uvm.ErrNotAttached
			if c.slots == 0 {
				want = uvm.ErrNoSCSIControllers
			}
			if err := v.RemoveSCSI(t.Context(), "x"); err != want {
				t.Error(err)
			}
			for i := range c.slots {
				v.remove(fmt.Sprint(i))
			}
			v.empty()
		})
	}
}

// TestCase80SCSIAddFails fails each half of an Add: nothing is left, and the next
// Add really attaches.
func TestCase80SCSIAddFails(t *testing.T) {
	for op, want := range map[string][]string{
		hcstest.OpModify: {"host Add Scsi/0/Attachments/0"},
		guestModify:      {"host Add Scsi/0/Attachments/0", "guest Add MappedVirtualDisk /mnt/a", "host Remove Scsi/0/Attachments/0"},
	} {
		t.Run(op, func(t *testing.T) {
			v := start(t, setup{})
			v.hook.fail(op)
			if _, err := v.AddSCSI(t.Context(), "a", "/mnt/a", false, noop); err == nil {
				t.Fatal("attached")
			} else if op == hcstest.OpModify && !errors.Is(err, errBoom) {
				t.Error(err)
			}
			v.hook.set(nil)
			v.expect(want...)
			calls := v.engine.Calls()
			if op == guestModify { // the undo has the settings of the Add
				add, undo := string(calls[len(calls)-3].Document), string(calls[len(calls)-1].Document)
				if strings.Replace(add, `"Add"`, `"Remove"`, 1) != undo {
					t.Errorf("%s is undone by %s", add, undo)
				}
			}
			if err := v.RemoveSCSI(t.Context(), "a"); err != uvm.ErrNotAttached {
				t.Error(err)
			}
			v.empty()
			v.add("a", "/mnt/a", false)
			v.expect("host Add Scsi/0/Attachments/0", "guest Add MappedVirtualDisk /mnt/a")
			v.remove("a")
			v.empty()
		})
	}
}

// TestSCSIUndoFails leaves a disk on the host that the host does not take
// back: its slot is not used again before it is gone.
func TestSCSIUndoFails(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == guestModify || c.Op == hcstest.OpModify && strings.Contains(string(c.Document), `"Remove"`) {
			return errBoom
		}
		return nil
	})
	if _, err := v.AddSCSI(ctx, "a", "/mnt/a", false, noop); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	if _, err := v.AddSCSI(ctx, "a", "/mnt/a", false, noop); err == nil {
		t.Error("attached where something is left")
	}
	v.hook.set(nil)
	v.since()
	if m := v.add("b", "", false); m.LUN != 1 {
		t.Errorf("the slot of another disk is used: %+v", m)
	}
	v.since()
	if m := v.add("a", "/mnt/a", true); m.LUN != 0 {
		t.Errorf("%+v", m)
	}
	v.expect("guest Remove MappedVirtualDisk /mnt/a", "host Remove Scsi/0/Attachments/0",
		"host Add Scsi/0/Attachments/0", "guest Add MappedVirtualDisk /mnt/a")
	v.remove("a")
	v.remove("b")
	v.empty()
}

// TestCase81SCSIRemoveFails fails each half of a Remove: it can be called again and
// does what is left to do.
func TestCase81SCSIRemoveFails(t *testing.T) {
	for op, want := range map[string][]string{
		guestModify: {
			"guest Remove MappedVirtualDisk /mnt/a", "guest Remove MappedVirtualDisk /mnt/a",
			"guest Remove MappedVirtualDisk /mnt/a", "host Remove Scsi/0/Attachments/0",
		},
		hcstest.OpModify: {
			"guest Remove MappedVirtualDisk /mnt/a", "host Remove Scsi/0/Attachments/0",
			"host Remove Scsi/0/Attachments/0", "host Remove Scsi/0/Attachments/0",
		},
	} {
		t.Run(op, func(t *testing.T) {
			v := start(t, setup{})
			m := v.add("a", "/mnt/a", false)
			v.since()
			v.hook.fail(op)
			for range 2 {
				if err := m.Release(t.Context()); err == nil {
					t.Error("removed")
				}
			}
			if p, err := v.GetScsiUvmPath(t.Context(), "a"); p != "/mnt/a" || err != nil {
				t.Error(p, err)
			}
			v.hook.set(nil)
			if err := m.Release(t.Context()); err != nil {
				t.Error(err)
			}
			v.expect(want...)
			v.empty()
		})
	}
}

// TestSCSIAddAfterFailedRemove wants a disk that the guest has let go of and
// the host has not: it is attached anew, and both users count.
func TestSCSIAddAfterFailedRemove(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	old := v.add("a", "/mnt/a", false)
	v.hook.fail(hcstest.OpModify)
	if err := old.Release(ctx); err == nil {
		t.Fatal("removed")
	}
	if _, err := v.AddSCSI(ctx, "a", "/mnt/b", true, noop); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	// This time the rest of the removal works and attaching does not.
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == hcstest.OpModify && strings.Contains(string(c.Document), `"Add"`) {
			return errBoom
		}
		return nil
	})
	if _, err := v.AddSCSI(ctx, "a", "/mnt/b", true, noop); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	v.empty()
	m := v.add("a", "/mnt/b", true)
	if m.UVMPath != "/mnt/b" {
		t.Errorf("%+v", m)
	}
	v.since()
	if err := old.Release(ctx); err != nil {
		t.Error(err)
	}
	v.expect()
	if err := m.Release(ctx); err != nil {
		t.Error(err)
	}
	v.expect("guest Remove MappedVirtualDisk /mnt/b", "host Remove Scsi/0/Attachments/0")
	v.empty()
}

// TestSCSICanceled ends the context of an Add and of a Remove while the guest
// is at it. An Add is undone in the guest too, which may have been about to
// do it.
func TestSCSICanceled(t *testing.T) {
	v := start(t, setup{})
	ctx, cancel := context.WithCancel(t.Context())
	v.hook.set(func(c context.Context, call hcstest.Call) error {
		if call.Op == guestModify && strings.Contains(string(call.Document), `"Add"`) {
			cancel()
			<-c.Done() // until the machine stops
		}
		return nil
	})
	defer uvm.SetAnswerGrace(100 * time.Millisecond)()
	if _, err := v.AddSCSI(ctx, "a", "/mnt/a", false, noop); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	v.hook.set(nil)
	v.add("a", "/mnt/a", false) // waits until the first is undone
	v.expect("host Add Scsi/0/Attachments/0", "guest Add MappedVirtualDisk /mnt/a",
		"guest Remove MappedVirtualDisk /mnt/a", "host Remove Scsi/0/Attachments/0",
		"host Add Scsi/0/Attachments/0", "guest Add MappedVirtualDisk /mnt/a")
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if err := v.RemoveSCSI(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := v.AddSCSI(ctx, "b", "/mnt/b", false, noop); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	v.remove("a")
	v.empty()
}

// TestCase82SCSIConcurrentAdd adds one disk from many goroutines: all of them
// return when it is attached, or when attaching failed.
func TestCase82SCSIConcurrentAdd(t *testing.T) {
	const n = 10
	for _, fails := range []bool{false, true} {
		v := start(t, setup{edit: func(o *uvm.OptionsLCOW) { o.ID = fmt.Sprint(fails) }})
		begun, finish := make(chan struct{}), make(chan struct{})
		var once sync.Once
		v.hook.set(func(_ context.Context, c hcstest.Call) error {
			if c.Op != hcstest.OpModify {
				return nil
			}
			once.Do(func() { close(begun) })
			<-finish
			if fails {
				return errBoom
			}
			return nil
		})
		errs := make(chan error, n)
		var wg sync.WaitGroup
		add := func() {
			_, err := v.AddSCSI(t.Context(), "a", "/mnt/a", false, noop)
			errs <- err
		}
		wg.Go(add)
		<-begun
		for range n - 1 {
			wg.Go(add)
		}
		select {
		case err := <-errs:
			t.Errorf("returned before the disk was attached: %v", err)
		default:
		}
		close(finish)
		wg.Wait()
		v.hook.set(nil)
		for range n {
			if err := <-errs; errors.Is(err, errBoom) != fails {
				t.Errorf("got %v", err)
			} else if !fails {
				v.remove("a")
			}
		}
		v.empty()
	}
}

// TestSCSIBlocksOnlyItsDisk checks that a guest that is stuck with one disk
// is no hindrance to another.
func TestSCSIBlocksOnlyItsDisk(t *testing.T) {
	v := start(t, setup{})
	begun, finish := make(chan struct{}), make(chan struct{})
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == hcstest.OpModify && strings.Contains(string(c.Document), `"slow"`) {
			close(begun)
			<-finish
		}
		return nil
	})
	var wg sync.WaitGroup
	wg.Go(func() { v.add("slow", "/mnt/slow", false) })
	<-begun
	v.add("fast", "/mnt/fast", false)
	v.remove("fast")
	if _, err := v.AddVPMEM(t.Context(), v.disk("layer")); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), brief)
	defer cancel()
	if _, err := v.AddSCSI(ctx, "slow", "/mnt/slow", false, noop); err != context.DeadlineExceeded {
		t.Error(err)
	}
	close(finish)
	wg.Wait()
	v.remove("slow")
}

// TestSCSIRemovedLate has the host remove a disk for a caller that has given up:
// the next Remove finds the host without it.
func TestSCSIRemovedLate(t *testing.T) {
	v := start(t, setup{})
	m := v.add("late", "/mnt/late", false)
	ctx, cancel := context.WithCancel(t.Context())
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op != hcstest.OpModify {
			return nil
		}
		v.hook.set(nil)
		err := v.system().Modify(t.Context(), &hcsschema.ModifySettingRequest{RequestType: hcsschema.Remove, ResourcePath: hcs.SCSIPath(0, 0)})
		if err != nil {
			t.Error(err)
		}
		cancel()
		return nil
	})
	if err := m.Release(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if err := m.Release(t.Context()); err != nil {
		t.Error(err)
	}
	v.empty()
}

// TestSCSIStress adds and removes from many goroutines while calls fail, and
// then ends the VM in the middle.
func TestSCSIStress(t *testing.T) {
	v := start(t, setup{})
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if (c.Op == hcstest.OpModify || c.Op == guestModify) && c.Nth%7 == 0 {
			return errBoom
		}
		return nil
	})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 30 {
				path := fmt.Sprint((i + j) % 5)
				m, err := v.AddSCSI(t.Context(), path, "/mnt/"+path, true, noop)
				if err != nil {
					continue
				}
				for range 20 {
					if m.Release(t.Context()) == nil {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	v.hook.set(nil)
	for i := range 5 { // what failed to be undone is undone by the next use
		v.add(fmt.Sprint(i), "", true)
		v.remove(fmt.Sprint(i))
	}
	v.empty()

	for i := range 8 {
		wg.Go(func() {
			for {
				m, err := v.AddSCSI(t.Context(), fmt.Sprint(i), "/mnt", true, noop)
				if err == nil {
					err = m.Release(t.Context())
				}
				if err != nil {
					if v.ExitError() != nil && v.Terminate(t.Context()) != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	v.system().Exit(&hcs.Exit{Kind: hcs.ExitGuest})
	wg.Wait()
}

// TestInternalConnection has the engine speak to the guest: it gets both
// halves in one request.
func TestInternalConnection(t *testing.T) {
	v := start(t, setup{edit: func(o *uvm.OptionsLCOW) { o.ExternalGuestConnection = false }})
	ctx := t.Context()
	m := v.add("a", "/mnt/a", false)
	v.expect("host Add Scsi/0/Attachments/0", "guest Add MappedVirtualDisk /mnt/a")
	if r := v.guest.Resources(v.ID()); len(r) != 1 {
		t.Errorf("resources %v", r)
	}
	v.hook.fail(hcstest.OpModify)
	if err := m.Release(ctx); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	if err := m.Release(ctx); err != nil {
		t.Error(err)
	}
	if err := errors.Join(v.CombineLayersLCOW(ctx, []string{"/a", "/b"}, "/s", "/r"), v.RemoveCombinedLayers(ctx, "/r")); err != nil {
		t.Error(err)
	}
	v.empty()
	if s, err := v.DumpStacks(ctx); s != "" || err != nil {
		t.Error(s, err)
	}
	if v.DeleteContainerStateSupported() || !v.SignalProcessSupported() {
		t.Error("capabilities")
	}
	if err := v.DeleteContainerState(ctx, "c"); !errors.Is(err, hcs.ErrNotSupported) {
		t.Error(err)
	}
	c, err := v.CreateContainer(ctx, "c", map[string]any{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Start(ctx), c.Terminate(ctx), c.Wait(), c.Close()); err != nil {
		t.Error(err)
	}
}
