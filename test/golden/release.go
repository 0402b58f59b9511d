package golden

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/byrevm/byre/hcs"
)

// releaseAll expects that everything that the creation of a Windows container
// has added is removed, after what the reference has removed before it failed:
// mounts from the last to the first, the guest's state of the container, the
// combined layers, the scratch, the layers.
func releaseAll(r *replay, e *expectation) {
	var calls []seen
	id := ""
	for i, s := range r.rec.Steps[:r.step] {
		if s.name() == "hcsoci.CreateContainer" {
			calls, id = callsOf(r.want, i), arg[string](r, s, "id")
		}
	}
	var mounts, root, layers []seen
	var scratch []seen
	for i, c := range calls {
		path := pathOf(c)
		kind := guestRequest(c)["ResourceType"]
		var both []seen
		switch {
		case kind == "CombinedLayers":
			root = []seen{r.removal(c)}
			continue
		case c.Op != "modify" || path == "" || strings.HasPrefix(path, "VirtualMachine/Devices/NetworkAdapters/"):
			continue // the guest's half of what was before, or the network's
		case i+1 < len(calls) && calls[i+1].Op != "modify" && strings.HasPrefix(path, "VirtualMachine/Devices/Scsi/"):
			both = []seen{r.removal(calls[i+1]), r.removal(c)}
		default:
			both = []seen{r.removal(c)}
		}
		switch {
		case root != nil:
			mounts = append(both, mounts...)
		case strings.HasPrefix(path, "VirtualMachine/Devices/Scsi/"):
			scratch = both
		default:
			layers = append(layers, both...)
		}
	}
	var state []seen
	if r.opts.ExternalGuestConnection {
		const nobody = "00000000-0000-0000-0000-000000000000"
		state = []seen{{Op: "bridge:DeleteContainerState", System: r.opts.ID, Step: r.step, Document: map[string]any{"ContainerId": id, "ActivityId": nobody}}}
	}
	for _, c := range slices.Concat(mounts, state, root, scratch, layers) {
		if !slices.ContainsFunc(e.calls, func(d seen) bool { return sameCall(c, d) }) {
			e.calls = append(slices.Clip(e.calls), c)
		}
	}
}

func sameCall(a, b seen) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

func pathOf(c seen) string {
	m, _ := c.Document.(map[string]any)
	p, _ := m["ResourcePath"].(string)
	return p
}

// removal is the call that takes back what an Add has made.
func (r *replay) removal(c seen) seen {
	doc := document(r.t, c.Document).(map[string]any) // a copy
	settings, _ := doc["Settings"].(map[string]any)
	delete(doc, "Settings")
	if doc["ResourcePath"] == hcs.PathVSMB {
		doc["Settings"] = map[string]any{"Name": settings["Name"]}
	}
	if doc["RequestType"] != nil {
		doc["RequestType"] = "Remove"
	}
	removed := seen{Op: c.Op, System: c.System, Step: r.step, Document: doc}
	if g := guestRequest(removed); g != nil {
		g["RequestType"] = "Remove"
		if s, _ := g["Settings"].(map[string]any); g["ResourceType"] == "CombinedLayers" {
			g["Settings"] = map[string]any{"ContainerRootPath": s["ContainerRootPath"]}
		}
	}
	return removed
}
