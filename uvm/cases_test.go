package uvm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/uvm"
)

// The cases of the reference's tests (spec §8) that need no machine and stand
// nowhere else. docs/cases.md has the whole list.

func TestCase01KernelMissing(t *testing.T) {
	opts := uvm.NewDefaultOptionsLCOW("", "")
	opts.Engine = hcstest.New(hcstest.Config{})
	opts.BootFilesPath, opts.KernelFile = `c:\does\not\exist\I\hope`, uvm.KernelFile
	_, err := uvm.CreateLCOW(t.Context(), opts)
	want := `kernel: 'c:\does\not\exist\I\hope\kernel' not found`
	if err == nil || strings.ReplaceAll(err.Error(), "/", `\`) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestCase07Capabilities(t *testing.T) {
	v := start(t, setup{})
	if version, caps := v.Capabilities(); version < 4 || !caps.SignalProcessSupported || !v.SignalProcessSupported() {
		t.Errorf("version %d, %+v", version, caps)
	}
}

func TestCase08SCSI64(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	const count = 64
	round := func(guestPath func(int) string) {
		t.Helper()
		for again := range 2 {
			for i := range count {
				if m := v.add(fmt.Sprint("disk", i), guestPath(i), false); m.UVMPath != guestPath(i) || int(m.LUN) != i {
					t.Errorf("round %d: disk %d is %+v", again, i, m)
				}
			}
		}
		for again := range 2 {
			for i := range count {
				if err := v.RemoveSCSI(ctx, fmt.Sprint("disk", i)); err != nil {
					t.Errorf("round %d: disk %d: %v", again, i, err)
				}
			}
		}
		v.empty()
	}
	round(func(int) string { return "" })
	round(func(i int) string { return fmt.Sprintf("/run/gcs/c/0/scsi%d", i) })
}

func TestCase10SCSIParallel(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	work := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range work {
				path := fmt.Sprint("disk", i)
				for _, at := range []string{"", fmt.Sprintf("/run/gcs/c/0/scsi/%d", i)} {
					if m, err := v.AddSCSI(ctx, path, at, false, uvm.VMAccessTypeIndividual); err != nil || m.UVMPath != at {
						t.Errorf("disk %d at %q: %+v, %v", i, at, m, err)
						continue
					}
					if err := v.RemoveSCSI(ctx, path); err != nil {
						t.Errorf("disk %d: %v", i, err)
					}
				}
			}
		})
	}
	for i := range 1000 {
		work <- i
	}
	close(work)
	wg.Wait()
	v.empty()
}

// The reference takes the original settings back, once.
func TestCase84Rollback(t *testing.T) {
	v := start(t, setup{})
	v.hook.fail(guestModify)
	if _, err := v.AddSCSI(t.Context(), "a", "/mnt/a", true, noop); err == nil {
		t.Fatal("attached")
	}
	var added, removed []string
	for _, c := range v.engine.Calls() {
		if c.Op != hcstest.OpModify {
			continue
		}
		var m struct {
			RequestType string
			Settings    json.RawMessage
		}
		if err := json.Unmarshal(c.Document, &m); err != nil {
			t.Fatal(err)
		}
		switch m.RequestType {
		case "Add":
			added = append(added, string(m.Settings))
		case "Remove":
			removed = append(removed, string(m.Settings))
		}
	}
	if len(added) != 1 || !slices.Equal(added, removed) {
		t.Errorf("added %s, removed %s", added, removed)
	}
	v.hook.set(nil)
	v.empty()
}

func TestCase85RemoveNetNSAgain(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	endpoints := []*hns.HNSEndpoint{endpoint("a"), endpoint("b"), endpoint("c")}
	if err := errors.Join(v.AddNetNS(ctx, "ns"), v.AddEndpointsToNS(ctx, "ns", endpoints)); err != nil {
		t.Fatal(err)
	}
	v.hook.fail(hcstest.OpModify) // the guest's half is done
	for range 2 {
		if err := v.RemoveNetNS(ctx, "ns"); !errors.Is(err, errBoom) {
			t.Errorf("got %v, want %v", err, errBoom)
		}
	}
	v.hook.set(nil)
	if err := errors.Join(v.RemoveNetNS(ctx, "ns"), v.RemoveNetNS(ctx, "ns")); err != nil {
		t.Error(err)
	}
	v.empty()
	if err := v.AddEndpointsToNS(ctx, "ns", endpoints); err != uvm.ErrNetNSNotFound {
		t.Errorf("got %v, want %v", err, uvm.ErrNetNSNotFound)
	}
}

func TestCase90CloseDuringWait(t *testing.T) {
	v := start(t, setup{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := v.Wait(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := errors.Join(v.Close(), v.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := v.AddSCSI(t.Context(), "a", "", true, noop); !errors.Is(err, hcs.ErrStopped) {
		t.Errorf("got %v, want %v", err, hcs.ErrStopped)
	}
}
