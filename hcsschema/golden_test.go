package hcsschema_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/schema1"
)

const golden = "../uvm/testdata/golden"

// recording is what this test reads of a recording; README.md beside them
// tells the rest.
type recording struct {
	Case    string
	Options struct {
		AdditionHCSDocumentJSON string
	}
	Calls []struct {
		Call     string
		Document json.RawMessage
		Query    json.RawMessage
		Options  json.RawMessage
	}
	Steps []struct {
		Op     string
		Result json.RawMessage
	}
}

// Every recorded document decodes without a member left over and is written
// again as it was.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(golden, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no recordings")
	}
	checked := make(map[string]int)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			// The recorder's word for a GUID that differs in each run.
			b = bytes.ReplaceAll(b, []byte("{{RUNTIME_ID}}"), []byte("12345678-feed-4bee-8bee-123456789abc"))
			var r recording
			if err := json.Unmarshal(b, &r); err != nil {
				t.Fatal(err)
			}
			c := &checker{T: t, windows: !strings.HasPrefix(r.Case, "lcow"), merged: r.Options.AdditionHCSDocumentJSON != "", count: checked}
			for _, call := range r.Calls {
				c.call(call.Call, call.Document, call.Query, call.Options)
			}
			for _, step := range r.Steps {
				c.result(step.Op, step.Result)
			}
		})
	}
	for _, what := range []string{
		"HcsCreateComputeSystem", "HcsModifyComputeSystem", "HcsCreateProcess", "HcsModifyProcess", "HcsSignalProcess",
		"HcsEnumerateComputeSystems", "HcsGetComputeSystemProperties", "bridge:ModifySettings", "bridge:Create",
		"*hcsschema.HostedSystem", "*hcsschema.LinuxHostedSystem", "*schema1.ContainerConfig",
		"*hcsschema.Attachment", "*hcsschema.VirtualPMemDevice", "*hcsschema.VirtualSmbShare", "*hcsschema.Plan9Share",
		"*hcsschema.NetworkAdapter", "*hcsschema.VirtualPciDevice",
		"*hcsschema.LCOWMappedVirtualDisk", "*hcsschema.WCOWMappedVirtualDisk", "*hcsschema.LCOWMappedDirectory",
		"*hcsschema.LCOWMappedVPMemDevice", "*hcsschema.LCOWMappedVPCIDevice", "*hcsschema.CombinedLayers",
		"*hcsschema.LCOWNetworkAdapter", "*hcsschema.NetworkModifyRequest", "*hns.HostComputeNamespace", "*hns.HNSEndpoint",
		"*hcsschema.Properties", "*schema1.ContainerProperties",
	} {
		if checked[what] == 0 {
			t.Errorf("no %s was checked", what)
		}
	}
}

// checker checks one recording.
type checker struct {
	*testing.T
	windows bool
	merged  bool // the user's own JSON is in the create document
	count   map[string]int
}

func (c *checker) call(call string, document, query, options json.RawMessage) {
	c.Helper()
	switch call {
	case "HcsCreateComputeSystem":
		c.create(document)
	case "HcsModifyComputeSystem":
		c.modify(document)
	case "HcsCreateProcess":
		c.same(document, &hcsschema.ProcessParameters{})
	case "HcsModifyProcess":
		c.same(document, &hcsschema.ProcessModifyRequest{})
	case "HcsSignalProcess":
		c.same(options, &hcsschema.SignalProcessOptionsLCOW{})
	case "HcsEnumerateComputeSystems":
		c.same(document, &schema1.ComputeSystemQuery{})
	case "HcsGetComputeSystemProperties":
		c.same(query, &hcsschema.PropertyQuery{})
		c.same(query, &schema1.PropertyQuery{})
	case "bridge:Create":
		m := c.members(document)
		if config := m["ContainerConfig"]; c.members(config)["OciSpecification"] != nil {
			c.same(config, &hcsschema.LinuxHostedSystem{})
		}
	case "bridge:ModifySettings":
		c.guest(c.members(document)["Request"])
	default:
		return
	}
	c.count[call]++
}

func (c *checker) create(document json.RawMessage) {
	c.Helper()
	m := c.members(document)
	switch {
	case m["SystemType"] != nil:
		c.same(document, &schema1.ContainerConfig{})
	case c.merged:
		c.part(document, &hcsschema.ComputeSystem{})
	default:
		c.same(document, &hcsschema.ComputeSystem{})
	}
	if hosted := m["HostedSystem"]; hosted != nil {
		switch h := c.members(hosted); {
		case h["Container"] != nil:
			c.same(hosted, &hcsschema.HostedSystem{})
		case h["OciSpecification"] != nil:
			c.same(hosted, &hcsschema.LinuxHostedSystem{})
		}
	}
}

func (c *checker) modify(document json.RawMessage) {
	c.Helper()
	c.same(document, &hcsschema.ModifySettingRequest{})
	m := c.members(document)
	if guest := m["GuestRequest"]; guest != nil {
		c.guest(guest)
	}
	if m["Settings"] == nil {
		return
	}
	var path string
	if err := json.Unmarshal(m["ResourcePath"], &path); err != nil {
		c.Fatal(err)
	}
	for _, k := range []struct {
		prefix string
		v      any
	}{
		{"VirtualMachine/Devices/Scsi/", &hcsschema.Attachment{}},
		{"VirtualMachine/Devices/VirtualPMem/Devices/", &hcsschema.VirtualPMemDevice{}},
		{"VirtualMachine/Devices/VirtualSmb/Shares", &hcsschema.VirtualSmbShare{}},
		{"VirtualMachine/Devices/Plan9/Shares", &hcsschema.Plan9Share{}},
		{"VirtualMachine/Devices/NetworkAdapters/", &hcsschema.NetworkAdapter{}},
		{"VirtualMachine/Devices/VirtualPci/", &hcsschema.VirtualPciDevice{}},
	} {
		if strings.HasPrefix(path, k.prefix) {
			c.same(m["Settings"], k.v)
			return
		}
	}
	c.Errorf("no type for the settings of %s", path)
}

func (c *checker) guest(request json.RawMessage) {
	c.Helper()
	c.same(request, &hcsschema.GuestRequest{})
	m := c.members(request)
	var kind hcsschema.ResourceType
	if r := m["ResourceType"]; r != nil {
		if err := json.Unmarshal(r, &kind); err != nil {
			c.Fatal(err)
		}
	}
	v := settings(kind, c.windows)
	if v == nil {
		c.Errorf("no type for the settings of %q", kind)
		return
	}
	c.same(m["Settings"], v)
	if preAdd, ok := v.(*hcsschema.NetworkModifyRequest); ok && preAdd.RequestType == hcsschema.PreAdd {
		c.same(c.members(m["Settings"])["Settings"], &hns.HNSEndpoint{})
	}
}

// settings returns where the settings of a guest request belong, or nil.
func settings(kind hcsschema.ResourceType, windows bool) any {
	switch kind {
	case hcsschema.ResourceMappedVirtualDisk:
		if windows {
			// The reference removes an attach-only disk in the Linux form,
			// which has the members of this one.
			return &hcsschema.WCOWMappedVirtualDisk{}
		}
		return &hcsschema.LCOWMappedVirtualDisk{}
	case hcsschema.ResourceNetwork:
		if windows {
			return &hcsschema.NetworkModifyRequest{}
		}
		return &hcsschema.LCOWNetworkAdapter{}
	case hcsschema.ResourceNetworkNamespace:
		return &hns.HostComputeNamespace{}
	case hcsschema.ResourceMappedDirectory:
		return &hcsschema.LCOWMappedDirectory{}
	case hcsschema.ResourceVPMemDevice:
		return &hcsschema.LCOWMappedVPMemDevice{}
	case hcsschema.ResourceVPCIDevice:
		return &hcsschema.LCOWMappedVPCIDevice{}
	case hcsschema.ResourceCombinedLayers:
		return &hcsschema.CombinedLayers{}
	case "":
		// The reference forgets the type when it removes a Windows NIC.
		return &hcsschema.NetworkModifyRequest{}
	}
	return nil
}

func (c *checker) result(op string, result json.RawMessage) {
	c.Helper()
	switch {
	case strings.HasPrefix(op, "PropertiesV2"):
		c.same(result, &hcsschema.Properties{})
	case strings.HasPrefix(op, "Properties"):
		c.same(result, &schema1.ContainerProperties{})
	case strings.HasPrefix(op, "GetComputeSystems"):
		c.same(result, &[]schema1.ContainerProperties{})
	}
}

// members returns the members of an object.
func (c *checker) members(doc json.RawMessage) map[string]json.RawMessage {
	c.Helper()
	if doc == nil {
		return nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(doc, &m); err != nil {
		c.Fatalf("%v in %s", err, doc)
	}
	return m
}

// same checks that v has room for all of doc and is written as doc.
func (c *checker) same(doc json.RawMessage, v any) {
	c.Helper()
	decode(c.T, doc, v)
	if got, want := c.generic(encode(c.T, v)), c.generic(doc); !reflect.DeepEqual(got, want) {
		c.Errorf("%T: got %s, want %s", v, encode(c.T, got), encode(c.T, want))
	}
	c.count[reflect.TypeOf(v).String()]++
}

// part checks that what v is written as is a part of doc.
func (c *checker) part(doc json.RawMessage, v any) {
	c.Helper()
	if err := json.Unmarshal(doc, v); err != nil {
		c.Fatal(err)
	}
	got, want := c.generic(encode(c.T, v)), c.generic(doc)
	if !within(got, want) {
		c.Errorf("%T: got %s, want a part of %s", v, encode(c.T, got), encode(c.T, want))
	}
}

// within tells whether all members of a are in b with the same value.
func within(a, b any) bool {
	am, ok := a.(map[string]any)
	if !ok {
		return reflect.DeepEqual(a, b)
	}
	bm, ok := b.(map[string]any)
	for k, v := range am {
		if w, there := bm[k]; !there || !within(v, w) {
			return false
		}
	}
	return ok
}

func (c *checker) generic(b []byte) any {
	c.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		c.Fatal(err)
	}
	return v
}
