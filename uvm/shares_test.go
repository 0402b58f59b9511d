package uvm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/schema1"
	"github.com/byrevm/byre/uvm"
)

func TestPipe(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	a, err := v.AddPipe(ctx, `\\.\pipe\x`)
	if err != nil {
		t.Fatal(err)
	}
	b, err := v.AddPipe(ctx, `\\.\pipe\x`)
	if err != nil || b.HostPath != `\\.\pipe\x` {
		t.Fatal(b, err)
	}
	if err := errors.Join(a.Release(ctx), a.Release(ctx)); err != nil {
		t.Error(err)
	}
	v.hook.fail(hcstest.OpModify)
	if err := b.Release(ctx); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	if _, err := v.AddPipe(ctx, "y"); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	if err := b.Release(ctx); err != nil {
		t.Error(err)
	}
	for _, p := range []string{`\\.\pipe\x`, "y"} {
		if err := v.RemovePipe(ctx, p); err != uvm.ErrNotAttached {
			t.Error(err)
		}
	}
	v.expect(`host Add MappedPipes/\\.\pipe\x`, `host Remove MappedPipes/\\.\pipe\x`, "host Add MappedPipes/y", `host Remove MappedPipes/\\.\pipe\x`)
	v.empty()
}

func TestAssignDevice(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	device := func(path string) hcsschema.VirtualPciDevice {
		return hcsschema.VirtualPciDevice{Functions: []hcsschema.VirtualPciFunction{{DeviceInstancePath: path}}}
	}
	a, err1 := v.AssignDevice(ctx, device("a"))
	b, err2 := v.AssignDevice(ctx, device("b"))
	c, err3 := v.AssignDevice(ctx, device("a"))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if a.ID != c.ID || a.ID == b.ID || len(v.system().Devices()) != 2 {
		t.Errorf("ids %s, %s, %s", a.ID, b.ID, c.ID)
	}
	if err := errors.Join(c.Release(ctx), c.Release(ctx), v.RemoveDevice(ctx, strings.ToUpper(b.ID))); err != nil {
		t.Error(err)
	}
	v.hook.fail(hcstest.OpModify)
	if err := a.Release(ctx); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	if err := a.Release(ctx); err != nil {
		t.Error(err)
	}
	for _, id := range []string{a.ID, "", "x"} {
		if err := v.RemoveDevice(ctx, id); err != uvm.ErrNotAttached {
			t.Error(err)
		}
	}
	// The guest does not get the device, and the host does not take it back.
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == guestModify || c.Op == hcstest.OpModify && strings.Contains(string(c.Document), `"Remove"`) {
			return errBoom
		}
		return nil
	})
	if _, err := v.AssignDevice(ctx, device("a")); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	if d, err := v.AssignDevice(ctx, device("a")); err != nil {
		t.Error(err)
	} else if err := d.Release(ctx); err != nil {
		t.Error(err)
	}
	if d := v.system().Devices(); len(d) != 0 {
		t.Errorf("left: %v", d)
	}
}

// A device more than the engine has places for reaches neither host nor guest.
func TestAssignDeviceFull(t *testing.T) {
	const places = 4
	v := start(t, setup{config: hcstest.Config{Host: hcs.HostInfo{PCIDevices: places}}})
	ctx := t.Context()
	assign := func(n int) (*uvm.VPCIDevice, error) {
		return v.AssignDevice(ctx, hcsschema.VirtualPciDevice{Functions: []hcsschema.VirtualPciFunction{{DeviceInstancePath: fmt.Sprint(n)}}})
	}
	var last *uvm.VPCIDevice
	for n := range places {
		d, err := assign(n)
		if err != nil {
			t.Fatal(err)
		}
		last = d
	}
	v.since()
	for range 2 {
		if _, err := assign(places); err != uvm.ErrNoAvailableLocation {
			t.Errorf("got %v, want %v", err, uvm.ErrNoAvailableLocation)
		}
	}
	v.expect()
	if _, err := assign(0); err != nil {
		t.Errorf("sharing one that is there: %v", err)
	}
	if err := last.Release(ctx); err != nil {
		t.Error(err)
	}
	if _, err := assign(places); err != nil {
		t.Errorf("with a place: %v", err)
	}
}

func endpoint(id string) *hns.HNSEndpoint {
	return &hns.HNSEndpoint{Id: id, MacAddress: "00-15-5D-00-00-01", IPAddress: net.IPv4(10, 0, 0, 2), PrefixLength: 24}
}

func TestNetNS(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	a, b := endpoint("aaaa"), endpoint("bbbb")
	all := []*hns.HNSEndpoint{a, b}
	if err := v.AddEndpointsToNS(ctx, "ns", all); err != uvm.ErrNetNSNotFound {
		t.Error(err)
	}
	if err := v.RemoveEndpointsFromNS(ctx, "ns", all); err != uvm.ErrNetNSNotFound {
		t.Error(err)
	}
	if err := errors.Join(v.RemoveNetNS(ctx, "ns"), v.AddNetNS(ctx, "ns")); err != nil {
		t.Error(err)
	}
	if err := v.AddNetNS(ctx, "NS"); err != uvm.ErrNetNSAlreadyAttached {
		t.Error(err)
	}
	if err := errors.Join(v.AddEndpointsToNS(ctx, "Ns", all), v.AddEndpointsToNS(ctx, "ns", []*hns.HNSEndpoint{endpoint("AAAA")})); err != nil {
		t.Error(err)
	}
	if n := len(v.system().Devices()); n != 2 {
		t.Errorf("%d NICs", n)
	}
	// One cannot be removed; the other is, and a second try does the rest.
	fails := func(_ context.Context, c hcstest.Call) error {
		if c.Op == hcstest.OpModify && strings.Contains(string(c.Document), `"aaaa"`) {
			return errBoom
		}
		return nil
	}
	v.hook.set(fails)
	if err := v.RemoveNetNS(ctx, "ns"); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	if n := len(v.system().Devices()); n != 1 {
		t.Errorf("%d NICs", n)
	}
	if err := v.AddEndpointsToNS(ctx, "ns", all); !errors.Is(err, errBoom) { // aaaa must go first
		t.Error(err)
	}
	v.hook.set(nil)
	if err := v.AddEndpointsToNS(ctx, "ns", all); err != nil {
		t.Error(err)
	}
	if n := len(v.system().Devices()); n != 2 {
		t.Errorf("%d NICs", n)
	}
	if err := errors.Join(v.RemoveEndpointsFromNS(ctx, "ns", []*hns.HNSEndpoint{a, endpoint("cccc")}), v.RemoveNetNS(ctx, "ns"), v.RemoveNetNS(ctx, "ns")); err != nil {
		t.Error(err)
	}
	v.empty()
}

// TestNICLeft lets the guest refuse a NIC that the host then does not take
// back: removing the namespace removes it.
func TestNICLeft(t *testing.T) {
	v := start(t, setup{})
	ctx := t.Context()
	if err := v.AddNetNS(ctx, "ns"); err != nil {
		t.Fatal(err)
	}
	v.hook.set(func(_ context.Context, c hcstest.Call) error {
		if c.Op == guestModify || c.Op == hcstest.OpModify && strings.Contains(string(c.Document), `"Remove"`) {
			return errBoom
		}
		return nil
	})
	if err := v.AddEndpointsToNS(ctx, "ns", []*hns.HNSEndpoint{endpoint("a")}); !errors.Is(err, errBoom) {
		t.Error(err)
	}
	v.hook.set(nil)
	if err := v.RemoveNetNS(ctx, "ns"); err != nil {
		t.Error(err)
	}
	v.empty()
}

// TestNICRequest checks what the guest is told.
func TestNICRequest(t *testing.T) {
	dhcp := &hns.HNSEndpoint{Id: "a", MacAddress: "m"}
	own := endpoint("b")
	own.Namespace = &hns.Namespace{ID: "other"}
	more := &hns.HNSEndpoint{
		Id: "c", IPConfigs: []hns.IPConfig{{IPAddress: net.ParseIP("fd00::2"), PrefixLength: 64}},
		Routes: []hns.Route{{NextHop: "fd00::1", DestinationPrefix: "::/0", Metric: 3}, {DestinationPrefix: "192.0.2.0/24"}},
	}
	for name, c := range map[string]struct {
		e    *hns.HNSEndpoint
		caps *schema1.GuestDefinedCapabilities
		want string
	}{
		"no address":    {dhcp, nil, `{"ID":"","MacAddress":"m","NamespaceID":"NS"}`},
		"own namespace": {own, nil, `{"ID":"","IPAddress":"10.0.0.2","MacAddress":"00-15-5D-00-00-01","NamespaceID":"other","PrefixLength":24}`},
		"more": {more, nil, `{"ID":"","IPConfigs":[{"IPAddress":"fd00::2","PrefixLength":64}],"NamespaceID":"NS",` +
			`"Routes":[{"DestinationPrefix":"::/0","Metric":3,"NextHop":"fd00::1"},{"DestinationPrefix":"192.0.2.0/24"}]}`},
		"no capability": {own, new(schema1.GuestDefinedCapabilities), ""},
	} {
		t.Run(name, func(t *testing.T) {
			v := start(t, setup{guest: &hcstest.Guest{Capabilities: c.caps}})
			if err := errors.Join(v.AddNetNS(t.Context(), "NS"), v.AddEndpointsToNS(t.Context(), "ns", []*hns.HNSEndpoint{c.e})); err != nil {
				t.Fatal(err)
			}
			var got string
			for _, call := range v.engine.Calls() {
				if call.Op != guestModify {
					continue
				}
				var m struct {
					Request struct{ Settings map[string]any }
				}
				if err := json.Unmarshal(call.Document, &m); err != nil {
					t.Fatal(err)
				}
				m.Request.Settings["ID"] = ""
				b, err := json.Marshal(m.Request.Settings)
				if err != nil {
					t.Fatal(err)
				}
				got = string(b)
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if err := v.RemoveNetNS(t.Context(), "ns"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStats(t *testing.T) {
	for name, c := range map[string]struct {
		properties func(string, *hcsschema.Properties)
		physical   bool
		working    uint64
		runtime    uint64
	}{
		"all": {func(_ string, p *hcsschema.Properties) {
			p.Statistics.Memory = &hcsschema.MemoryStats{MemoryUsagePrivateWorkingSetBytes: 7}
		}, false, 7, 100},
		"physical": {nil, true, 1024 << 20, 100},
		"physical, and more": {func(_ string, p *hcsschema.Properties) {
			p.Statistics.Memory = &hcsschema.MemoryStats{MemoryUsagePrivateWorkingSetBytes: 1100 << 20}
		}, true, 1100 << 20, 100},
		"nothing": {func(_ string, p *hcsschema.Properties) { p.Statistics, p.Memory = nil, nil }, true, 0, 0},
		"empty": {func(_ string, p *hcsschema.Properties) {
			*p = hcsschema.Properties{Statistics: &hcsschema.Statistics{}, Memory: &hcsschema.MemoryInformationForVm{}}
		}, true, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			v := start(t, setup{
				config: hcstest.Config{Properties: c.properties},
				edit:   func(o *uvm.OptionsLCOW) { o.AllowOvercommit = !c.physical },
			})
			s, err := v.Stats(t.Context())
			if err != nil || s.Memory.WorkingSetBytes != c.working || s.Processor.TotalRuntimeNS != c.runtime {
				t.Errorf("got %v, %v", s, err)
			}
			v.hook.fail(hcstest.OpProperties)
			if _, err := v.Stats(t.Context()); !errors.Is(err, errBoom) {
				t.Error(err)
			}
		})
	}
}
