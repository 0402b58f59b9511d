package uvm_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
)

// A gate holds the first guest request of a kind until it is opened.
type gate struct {
	begun, open chan struct{}
	once        sync.Once
}

// hold has the guest take its time for its first request of a type.
func (v *testVM) hold(t hcsschema.RequestType) *gate {
	g := &gate{begun: make(chan struct{}), open: make(chan struct{})}
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == guestModify && strings.Contains(string(c.Document), `"RequestType":"`+string(t)+`"`) {
			g.once.Do(func() {
				close(g.begun)
				<-g.open
			})
		}
		return nil
	})
	return g
}

// callOff calls do off when the guest works for it. It must return at once.
func (v *testVM) callOff(g *gate, do func(context.Context) error) {
	v.t.Helper()
	ctx, cancel := context.WithCancel(v.t.Context())
	defer cancel()
	go func() {
		<-g.begun
		cancel()
	}()
	if err := do(ctx); !errors.Is(err, context.Canceled) {
		v.t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestCalledOff calls an Add, and a Remove, off that the guest is working on.
// The call ends at once, with nothing sent that could overtake it; whoever
// wants the same next waits until it has been undone.
func TestCalledOff(t *testing.T) {
	pci := hcsschema.VirtualPciDevice{Functions: []hcsschema.VirtualPciFunction{{DeviceInstancePath: "x"}}}
	for name, c := range map[string]struct {
		add, remove func(*testVM, context.Context) error
		host, guest string // of the requests
		kept        bool   // the guest is not asked to remove
	}{
		"SCSI": {
			add: func(v *testVM, ctx context.Context) error {
				_, err := v.AddSCSI(ctx, "a", "/mnt/a", false, noop)
				return err
			},
			remove: func(v *testVM, ctx context.Context) error { return v.RemoveSCSI(ctx, "a") },
			host:   "Scsi/0/Attachments/0", guest: "MappedVirtualDisk /mnt/a",
		},
		"Plan9": {
			add: func(v *testVM, ctx context.Context) (err error) {
				share, err := v.AddPlan9(ctx, "/a", "/mnt/a", false, false, nil)
				if err == nil {
					v.folder = share
				}
				return err
			},
			remove: func(v *testVM, ctx context.Context) error { return v.folder.Release(ctx) },
			host:   "Plan9/Shares", guest: "MappedDirectory /mnt/a",
		},
		"layers": {
			add: func(v *testVM, ctx context.Context) error {
				return v.CombineLayersLCOW(ctx, []string{"/l"}, "/s", "/c")
			},
			remove: func(v *testVM, ctx context.Context) error { return v.RemoveCombinedLayers(ctx, "/c") },
			guest:  "CombinedLayers /c",
		},
		"PCI": {
			add: func(v *testVM, ctx context.Context) error {
				_, err := v.AssignDevice(ctx, pci)
				return err
			},
			guest: "VPCIDevice", kept: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := start(t, setup{})
			// expect leaves out what is not the test's: ids, and requests to
			// the host where there are none.
			expect := func(want ...string) {
				t.Helper()
				var got []string
				for _, s := range v.since() {
					if !strings.HasPrefix(s, "host ") || c.host != "" {
						got = append(got, s)
					}
				}
				if g, w := strings.Join(got, ", "), strings.Join(want, ", "); g != w {
					t.Errorf("host and guest got %s, want %s", g, w)
				}
			}
			list := func(all ...string) (l []string) {
				for _, s := range all {
					if who, what, _ := strings.Cut(s, " "); who == "guest" {
						l = append(l, s+" "+c.guest)
					} else if c.host != "" {
						l = append(l, who+" "+what+" "+c.host)
					}
				}
				return l
			}
			g := v.hold(hcsschema.Add)
			v.callOff(g, func(ctx context.Context) error { return c.add(v, ctx) })
			expect(list("host Add", "guest Add")...)
			again := make(chan error)
			go func() { again <- c.add(v, t.Context()) }()
			close(g.open)
			if err := <-again; err != nil {
				t.Fatal(err)
			}
			expect(list("guest Remove", "host Remove", "host Add", "guest Add")...)
			if c.kept {
				return
			}
			g = v.hold(hcsschema.Remove)
			v.callOff(g, func(ctx context.Context) error { return c.remove(v, ctx) })
			expect(list("guest Remove")...)
			go func() { again <- c.remove(v, t.Context()) }()
			close(g.open)
			if err := <-again; err != nil {
				t.Fatal(err)
			}
			v.empty()
		})
	}
}

// TestCalledOffNIC calls off what adds an endpoint; the namespace waits for
// it.
func TestCalledOffNIC(t *testing.T) {
	v := start(t, setup{})
	if err := v.AddNetNS(t.Context(), "ns"); err != nil {
		t.Fatal(err)
	}
	g := v.hold(hcsschema.Add)
	v.callOff(g, func(ctx context.Context) error {
		return v.AddEndpointsToNS(ctx, "ns", []*hns.HNSEndpoint{endpoint("a")})
	})
	if got := v.since(); len(got) != 2 {
		t.Errorf("host and guest got %q, want two Adds", got)
	}
	done := make(chan error)
	go func() { done <- v.RemoveNetNS(t.Context(), "ns") }()
	close(g.open)
	if err := <-done; err != nil {
		t.Error(err)
	}
	v.empty()
}

// TestCalledOffLayers calls off the combination of layers: none of them goes
// before the guest has let go of them.
func TestCalledOffLayers(t *testing.T) {
	v := start(t, setup{})
	v.add("a", "/mnt/a", false)
	v.since()
	g := v.hold(hcsschema.Add)
	v.callOff(g, func(ctx context.Context) error {
		return v.CombineLayersLCOW(ctx, []string{"/mnt/a"}, "", "/c")
	})
	done := make(chan error)
	go func() { done <- v.RemoveSCSI(t.Context(), "a") }()
	v.expect("guest Add CombinedLayers /c")
	close(g.open)
	if err := <-done; err != nil {
		t.Error(err)
	}
	v.expect("guest Remove CombinedLayers /c", "guest Remove MappedVirtualDisk /mnt/a", "host Remove Scsi/0/Attachments/0")
	v.empty()
}

// TestCalledOffPlace calls off the mount of a disk: another disk at the same
// place of the guest waits for that.
func TestCalledOffPlace(t *testing.T) {
	v := start(t, setup{})
	g := v.hold(hcsschema.Add)
	v.callOff(g, func(ctx context.Context) error {
		_, err := v.AddSCSI(ctx, "a", "/mnt/a", false, noop)
		return err
	})
	done := make(chan error)
	go func() {
		_, err := v.AddSCSI(t.Context(), "b", "/mnt/a", false, noop)
		done <- err
	}()
	close(g.open)
	if err := <-done; err != nil {
		t.Error(err)
	}
	var guest []string
	for _, s := range v.since() {
		if strings.HasPrefix(s, "guest ") {
			guest = append(guest, s)
		}
	}
	if got, want := strings.Join(guest, ", "), "guest Add MappedVirtualDisk /mnt/a, guest Remove MappedVirtualDisk /mnt/a, guest Add MappedVirtualDisk /mnt/a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestShareAfterEnd shares what is attached when the VM has ended.
func TestShareAfterEnd(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	layer := v.disk("layer")
	for name, add := range map[string]func() error{
		"SCSI": func() error {
			_, err := v.AddSCSI(ctx, "a", "/mnt/a", false, noop)
			return err
		},
		"VPMEM": func() error {
			_, err := v.AddVPMEM(ctx, layer)
			return err
		},
		"Plan9": func() error {
			_, err := v.AddPlan9(ctx, "/a", "/mnt/b", false, false, nil)
			return err
		},
		"pipe": func() error {
			_, err := v.AddPipe(ctx, `\\.\pipe\x`)
			return err
		},
		"PCI": func() error {
			_, err := v.AssignDevice(ctx, hcsschema.VirtualPciDevice{Functions: []hcsschema.VirtualPciFunction{{DeviceInstancePath: "x"}}})
			return err
		},
	} {
		if err := add(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		defer func() {
			if err := add(); !errors.Is(err, hcs.ErrStopped) {
				t.Errorf("%s after the end: got %v, want %v", name, err, hcs.ErrStopped)
			}
		}()
	}
	v.system().Exit(&hcs.Exit{Kind: hcs.ExitGuest})
	if err := v.Wait(); err != nil {
		t.Error(err)
	}
}
