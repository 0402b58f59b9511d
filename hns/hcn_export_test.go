package hns

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/Microsoft/go-winio/pkg/guid"
)

// NewHCN and NewHCNSession are the network of a Windows host on a service of
// the test.
func NewHCN(s *FakeHCN) Network { return &hcn{service: s} }

func NewHCNSession(s *FakeHCN, processes func(uint32) (uint64, error), pid uint32) (Session, error) {
	n, err := newHCNSession(s, processes, pid)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// HCNOwnedID returns an id of a process that started at a time.
func HCNOwnedID(pid uint32, started uint64, n uint32) string {
	return hcnOwnedID(pid, hcnSum(started), n).String()
}

// HCNError returns what the service answers with a code.
func HCNError(code uint32) error {
	return &hcnError{Call: "Hcn", Code: code, Record: `{"Success":false,"Error":"broken"}`}
}

// A FakeHCN is the Host Compute Network service in memory. It is as strict as
// it may be: nothing that is in use is removed. Ids come in capitals.
type FakeHCN struct {
	// Before is asked before each call, by the names of the function and of
	// the kind, and may wait or fail it.
	Before func(call, kind, id string) error

	mu      sync.Mutex
	objects map[hcnKind]map[guid.GUID]map[string]any
	order   map[hcnKind][]guid.GUID
	nics    byte
}

// NewFakeHCN returns a service with these networks, and their ids.
func NewFakeHCN(networks ...string) (*FakeHCN, []string) {
	f := &FakeHCN{objects: make(map[hcnKind]map[guid.GUID]map[string]any), order: make(map[hcnKind][]guid.GUID)}
	var ids []string
	for i, name := range networks {
		id := guid.GUID{Data1: uint32(i + 1), Data3: 0x4000}
		f.put(hcnNetworks, id, map[string]any{"Name": name, "Type": "NAT"})
		ids = append(ids, id.String())
	}
	return f, ids
}

func (f *FakeHCN) put(kind hcnKind, id guid.GUID, o map[string]any) {
	o["ID"] = strings.ToUpper(id.String())
	if f.objects[kind] == nil {
		f.objects[kind] = make(map[guid.GUID]map[string]any)
	}
	f.objects[kind][id] = o
	f.order[kind] = append(f.order[kind], id)
}

func (f *FakeHCN) begin(call string, kind hcnKind, id guid.GUID) error {
	if f.Before == nil {
		return nil
	}
	return f.Before(call, string(kind), id.String())
}

func (f *FakeHCN) get(kind hcnKind, id guid.GUID) (map[string]any, error) {
	if o, ok := f.objects[kind][id]; ok {
		return o, nil
	}
	if kind == hcnNamespaces { // a code that says nothing
		return nil, HCNError(0x80004005)
	}
	return nil, HCNError(0x80070490)
}

// Count returns how many endpoints and namespaces there are.
func (f *FakeHCN) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.objects[hcnEndpoints]) + len(f.objects[hcnNamespaces])
}

// Rename names a network.
func (f *FakeHCN) Rename(id, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, _ := guid.FromString(id)
	f.objects[hcnNetworks][g]["Name"] = name
}

// Settings returns an endpoint as it was made.
func (f *FakeHCN) Settings(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, _ := guid.FromString(id)
	b, _ := json.Marshal(f.objects[hcnEndpoints][g])
	return string(b)
}

// Make makes an object with an id, as anybody may: "Endpoint", "Namespace".
func (f *FakeHCN) Make(kind, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, _ := guid.FromString(id)
	f.put(hcnKind(kind), g, map[string]any{})
}

func (f *FakeHCN) List(kind hcnKind, query string) (string, error) {
	if err := f.begin("List", kind, guid.GUID{}); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := []string{}
	for _, id := range f.order[kind] {
		ids = append(ids, strings.ToUpper(id.String()))
	}
	b, err := json.Marshal(ids)
	return string(b), err
}

func (f *FakeHCN) Query(kind hcnKind, id guid.GUID, query string) (string, error) {
	if err := f.begin("Query", kind, id); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o, err := f.get(kind, id)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(o)
	return string(b), err
}

func (f *FakeHCN) Create(kind hcnKind, network, id guid.GUID, settings, query string) (string, error) {
	if err := f.begin("Create", kind, id); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.objects[kind][id]; ok {
		return "", HCNError(0x800700b7)
	}
	var o map[string]any
	if err := json.Unmarshal([]byte(settings), &o); err != nil {
		return "", err
	}
	if kind == hcnEndpoints {
		if _, err := f.get(hcnNetworks, network); err != nil {
			return "", err
		}
		if o["MacAddress"] == nil {
			f.nics++
			o["MacAddress"] = fmt.Sprintf("00-15-5D-00-00-%02x", f.nics)
		}
	}
	f.put(kind, id, o)
	b, err := json.Marshal(o)
	return string(b), err
}

func (f *FakeHCN) Modify(kind hcnKind, id guid.GUID, settings string) error {
	if err := f.begin("Modify", kind, id); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	ns, err := f.get(kind, id)
	if err != nil {
		return err
	}
	var m struct {
		ResourceType, RequestType string
		Settings                  struct{ EndpointId string }
	}
	if err := json.Unmarshal([]byte(settings), &m); err != nil || m.ResourceType != "Endpoint" {
		return HCNError(0x803b001b)
	}
	g, _ := guid.FromString(m.Settings.EndpointId)
	e, err := f.get(hcnEndpoints, g)
	if err != nil {
		return err
	}
	members, _ := ns["Resources"].([]any)
	switch {
	case m.RequestType == "Add" && (e["HostComputeNamespace"] == nil || e["HostComputeNamespace"] == hcnNoID):
		e["HostComputeNamespace"] = ns["ID"]
		ns["Resources"] = append(members, map[string]any{"Type": "Endpoint", "Data": map[string]any{"Id": e["ID"]}})
	case m.RequestType == "Remove" && e["HostComputeNamespace"] == ns["ID"]:
		e["HostComputeNamespace"] = hcnNoID
		ns["Resources"] = slices.DeleteFunc(members, func(r any) bool {
			return r.(map[string]any)["Data"].(map[string]any)["Id"] == e["ID"]
		})
	default:
		return HCNError(0x803b0014)
	}
	return nil
}

func (f *FakeHCN) Delete(kind hcnKind, id guid.GUID) error {
	if err := f.begin("Delete", kind, id); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o, err := f.get(kind, id)
	if err != nil {
		return err
	}
	if members, _ := o["Resources"].([]any); len(members) > 0 {
		return HCNError(0x803b002c)
	}
	if in := o["HostComputeNamespace"]; in != nil && in != hcnNoID {
		return HCNError(0x803b002c)
	}
	delete(f.objects[kind], id)
	f.order[kind] = slices.DeleteFunc(f.order[kind], func(g guid.GUID) bool { return g == id })
	return nil
}
