package golden

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const refNamespace = "99999999-0000-4000-8000-000000000001"

func (v *devicesRef) netNS() {
	args := object{"id": refNamespace}
	switch {
	case v.rand.IntN(2) == 0 && v.namespace:
		v.step("AddNetNS", args, nil, errors.New("network namespace already added"))
	case v.rand.IntN(3) > 0 || !v.namespace:
		if v.namespace {
			return
		}
		v.namespace = true
		v.step("AddNetNS", args, nil, nil)
	default: // any order, and the first that fails ends it (B29)
		v.rand.Shuffle(len(v.nics), func(i, j int) { v.nics[i], v.nics[j] = v.nics[j], v.nics[i] })
		var err error
		for len(v.nics) > 0 && err == nil {
			if err = v.removeNIC(v.nics[0]); err == nil {
				v.nics = v.nics[1:]
			}
		}
		v.namespace = err != nil
		for _, n := range v.nics { // only the reference has them still
			v.pending[n.endpoint] = true
		}
		v.step("RemoveNetNS", args, nil, err)
	}
}

func (v *devicesRef) removeNIC(n refNIC) error {
	err := v.modify("Remove", "VirtualMachine/Devices/NetworkAdapters/"+n.id, nicSettings(n.endpoint),
		request("Remove", "Network", object{"NamespaceID": refNamespace, "ID": n.endpoint}))
	v.pending[n.endpoint] = err != nil
	return err
}

func endpointID(n int) string { return fmt.Sprintf("aaaaaaaa-0000-4000-8000-%012d", n) }

func macOf(endpoint string) string { return "00-15-5D-52-C0-0" + endpoint[len(endpoint)-1:] }

func nicSettings(endpoint string) object {
	return object{"EndpointId": endpoint, "MacAddress": macOf(endpoint)}
}

func (v *devicesRef) endpoints() {
	var ids []string
	for _, n := range v.rand.Perm(3)[:1+v.rand.IntN(3)] {
		if id := endpointID(n + 1); !v.pending[id] {
			ids = append(ids, id)
		}
	}
	var l []any
	for _, id := range ids {
		l = append(l, object{"ID": id, "MacAddress": macOf(id), "IPAddress": "10.1.2.3", "PrefixLength": 24, "Namespace": object{"ID": refNamespace}})
	}
	args := object{"id": refNamespace, "endpoints": l}
	op := pick(v, "AddEndpointsToNS", "RemoveEndpointsFromNS")
	if !v.namespace {
		v.step(op, args, nil, errors.New("network namespace not found"))
		return
	}
	var err error
	for _, id := range ids {
		i := slices.IndexFunc(v.nics, func(n refNIC) bool { return n.endpoint == id })
		if strings.HasPrefix(op, "Remove") && i >= 0 {
			if err = v.removeNIC(v.nics[i]); err == nil {
				v.nics = slices.Delete(v.nics, i, i+1)
			}
		} else if strings.HasPrefix(op, "Add") && i < 0 {
			n := refNIC{v.guid(), id}
			guest := request("Add", "Network", object{"NamespaceID": refNamespace, "ID": n.id, "MacAddress": macOf(id), "IPAddress": "10.1.2.3", "PrefixLength": 24})
			if err = v.modify("Add", "VirtualMachine/Devices/NetworkAdapters/"+n.id, nicSettings(id), guest); err == nil {
				v.nics = append(v.nics, n)
			}
		}
		if err != nil {
			for _, id := range ids { // see netNS
				v.pending[id] = v.pending[id] || op == "RemoveEndpointsFromNS"
			}
			break
		}
	}
	v.step(op, args, nil, err)
}

// TestCapabilities replays a recording whose guest cannot be told of NICs, by
// its script: the host alone hears of them.
func TestCapabilities(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "uvm", "testdata", "golden", "lcow-19041-net.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("BYRE_GOLDEN", dir)
	for name, caps := range map[string]string{
		"object": `{"SignalProcessSupported":true}`, "names": "SignalProcessSupported,DumpStacksSupported", "none": "",
	} {
		var rec object
		if err := json.Unmarshal(b, &rec); err != nil {
			t.Fatal(err)
		}
		rec["fake"] = object{"FAKEHCS_CAPS": caps}
		for _, c := range rec["calls"].([]any) {
			if doc, ok := c.(object)["document"].(object); ok {
				delete(doc, "GuestRequest")
			}
		}
		out, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".json"), out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	Run(t, Config{Rules: filepath.Join("..", "..", "docs", "differences.md")})
}
