package hcstest

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

const aGUID = "99999999-0000-4000-8000-000000000001"

// Every resource path can be added and removed once; what the document has is
// there from the start.
func TestDevices(t *testing.T) {
	e := New(Config{Host: hcs.HostInfo{PMemRemovable: true}})
	cs := &hcsschema.ComputeSystem{VirtualMachine: &hcsschema.VirtualMachine{Devices: &hcsschema.Devices{
		Scsi:            map[string]hcsschema.Scsi{"0": {Attachments: map[string]hcsschema.Attachment{"0": {Path: "boot"}}}, "1": {}},
		VirtualPMem:     &hcsschema.VirtualPMemController{MaximumCount: 2, Devices: map[string]hcsschema.VirtualPMemDevice{"0": {HostPath: "root"}}},
		NetworkAdapters: map[string]hcsschema.NetworkAdapter{"n": {}},
		VirtualPci:      map[string]hcsschema.VirtualPciDevice{"p": {}},
		Plan9:           &hcsschema.Plan9{Shares: []hcsschema.Plan9Share{{Name: "a"}}},
		VirtualSmb:      &hcsschema.VirtualSmb{Shares: []hcsschema.VirtualSmbShare{{Name: "b"}}},
	}}}
	doc, err := hcs.NewDocument(cs, "")
	if err != nil {
		t.Fatal(err)
	}
	hs, err := e.Create(t.Context(), "vm", doc)
	if err != nil {
		t.Fatal(err)
	}
	defer hs.Close()
	s := e.System("vm")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	initial := []string{
		hcs.NetworkPath("n"), hcs.PathPlan9 + "#a", hcs.SCSIPath(0, 0), hcs.VPMemPath(0), hcs.PCIPath("p"), hcs.PathVSMB + "#b",
	}
	if got := slices.Sorted(maps.Keys(s.Devices())); !slices.Equal(got, initial) {
		t.Errorf("got  %q\nwant %q", got, initial)
	}
	for _, c := range []struct {
		path     string
		settings any
		remove   any
	}{
		{hcs.SCSIPath(1, 63), hcsschema.Attachment{Path: "x"}, nil},
		{hcs.VPMemPath(1), hcsschema.VirtualPMemDevice{HostPath: "x"}, nil},
		{hcs.NetworkPath(aGUID), hcsschema.NetworkAdapter{}, hcsschema.NetworkAdapter{}},
		{hcs.PCIPath(aGUID), hcsschema.VirtualPciDevice{}, nil},
		{hcs.PipePath(`\\.\pipe\x`), nil, nil},
		{hcs.PathPlan9, hcsschema.Plan9Share{Name: "0", Path: "x"}, hcsschema.Plan9Share{Name: "0"}},
		{hcs.PathVSMB, hcsschema.VirtualSmbShare{Name: "s0", Path: "x"}, hcsschema.VirtualSmbShare{Name: "s0"}},
	} {
		for _, st := range []struct {
			t        hcsschema.RequestType
			settings any
			want     error
		}{
			{hcsschema.Remove, c.remove, hcs.ErrNotFound},
			{hcsschema.Update, c.settings, hcs.ErrNotFound},
			{hcsschema.Add, c.settings, nil},
			{hcsschema.Add, c.settings, hcs.ErrAlreadyExists},
			{hcsschema.Update, c.settings, nil},
			{hcsschema.Remove, c.remove, nil},
			{hcsschema.Remove, c.remove, hcs.ErrNotFound},
		} {
			err := s.Modify(t.Context(), &hcsschema.ModifySettingRequest{RequestType: st.t, ResourcePath: c.path, Settings: st.settings})
			if !errors.Is(err, st.want) {
				t.Errorf("%s %s: got %v, want %v", st.t, c.path, err, st.want)
			}
		}
	}
	for path, want := range map[string]error{hcs.PathMemorySize: nil, hcs.PathProcessorLimits: nil, "VirtualMachine/Toaster": hcs.ErrNotSupported} {
		if err := s.Modify(t.Context(), &hcsschema.ModifySettingRequest{RequestType: hcsschema.Update, ResourcePath: path, Settings: 1}); !errors.Is(err, want) {
			t.Errorf("update of %s: got %v, want %v", path, err, want)
		}
		if err := s.Modify(t.Context(), &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add, ResourcePath: path, Settings: 1}); !errors.Is(err, hcs.ErrNotSupported) {
			t.Errorf("add of %s: %v", path, err)
		}
	}
	if got := slices.Sorted(maps.Keys(s.Devices())); !slices.Equal(got, initial) {
		t.Errorf("after all: %q", got)
	}
}

func TestBadDocuments(t *testing.T) {
	e := New(Config{})
	for name, doc := range map[string]string{
		"no JSON": `{`, "no VM": `{}`,
		"controller": `{"VirtualMachine":{"Devices":{"Scsi":{"x":{}}}}}`,
		"LUN":        `{"VirtualMachine":{"Devices":{"Scsi":{"0":{"Attachments":{"64":{}}}}}}}`,
		"device":     `{"VirtualMachine":{"Devices":{"VirtualPMem":{"MaximumCount":1,"Devices":{"1":{}}}}}}`,
	} {
		if s, err := e.Create(t.Context(), name, hcs.Document(doc)); err == nil {
			t.Errorf("%s: created", name)
			s.Close()
		}
	}
}

// The guest keeps what it is given until it is taken back, and refuses what
// has no device.
func TestGuestResources(t *testing.T) {
	g := &Guest{}
	s, c := boot(t, g, false)
	type m = map[string]any
	request := func(rt hcsschema.RequestType, r hcsschema.ResourceType, settings any) error {
		return c.Modify(t.Context(), hcsschema.GuestRequest{RequestType: rt, ResourceType: r, Settings: settings})
	}
	disk, pmem := m{"MountPath": "/d", "Lun": 1}, m{"MountPath": "/p", "DeviceNumber": 1}
	if request(hcsschema.Add, hcsschema.ResourceMappedVirtualDisk, disk) == nil || request(hcsschema.Add, hcsschema.ResourceVPMemDevice, pmem) == nil ||
		request(hcsschema.Add, hcsschema.ResourceVPCIDevice, m{"VMBusGUID": aGUID}) == nil {
		t.Error("the guest took what has no device")
	}
	for path, settings := range map[string]any{
		hcs.SCSIPath(0, 1): hcsschema.Attachment{}, hcs.VPMemPath(1): hcsschema.VirtualPMemDevice{}, hcs.PCIPath(aGUID): hcsschema.VirtualPciDevice{},
	} {
		if err := s.Modify(t.Context(), &hcsschema.ModifySettingRequest{RequestType: hcsschema.Add, ResourcePath: path, Settings: settings}); err != nil {
			t.Fatal(err)
		}
	}
	all := map[hcsschema.ResourceType]any{
		hcsschema.ResourceMappedVirtualDisk: disk, hcsschema.ResourceVPMemDevice: pmem, hcsschema.ResourceVPCIDevice: m{"VMBusGUID": aGUID},
		hcsschema.ResourceMappedDirectory: m{"MountPath": "/9", "Port": 564}, hcsschema.ResourceCombinedLayers: m{"ContainerRootPath": "/r"},
		hcsschema.ResourceNetwork: m{"ID": "n"}, hcsschema.ResourceNetworkNamespace: m{"ID": "ns"},
	}
	for r, settings := range all {
		if err := request(hcsschema.Add, r, settings); err != nil {
			t.Errorf("add %s: %v", r, err)
		}
	}
	if err := request(hcsschema.Add, hcsschema.ResourceMappedVirtualDisk, m{"Lun": 7}); err != nil { // attach only
		t.Error(err)
	}
	if got := g.Resources("vm"); len(got) != len(all) || !json.Valid(got["MappedDirectory /9"]) {
		t.Errorf("resources: %v", got)
	}
	for r, settings := range all {
		if err := request(hcsschema.Remove, r, settings); err != nil {
			t.Errorf("remove %s: %v", r, err)
		}
	}
	if got := g.Resources("vm"); len(got) != 0 {
		t.Errorf("resources left: %v", got)
	}
	for _, r := range []hcsschema.ResourceType{"", "Toaster"} {
		if request(hcsschema.Add, r, nil) == nil {
			t.Errorf("the guest took a resource %q", r)
		}
	}
	if text, err := c.DumpStacks(t.Context()); text != "fake stacks" || err != nil {
		t.Errorf("stacks: %q, %v", text, err)
	}
}
