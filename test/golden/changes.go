package golden

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/byrevm/byre/hcsschema"
)

func parseChange(s string) (change, error) {
	if m := errorIs.FindStringSubmatch(s); m != nil {
		return func(_ *replay, e *expectation) { e.Error = m[1] }, nil
	}
	if m := resultIs.FindStringSubmatch(s); m != nil {
		return func(_ *replay, e *expectation) { e.Error, e.Result = "", []byte(m[1]) }, nil
	}
	if m := replaceIs.FindStringSubmatch(s); m != nil {
		re, err := regexp.Compile(m[1])
		if err != nil {
			return nil, err
		}
		return func(r *replay, e *expectation) {
			for i := range e.calls {
				e.calls[i].Document = mapStrings(e.calls[i].Document, func(s string) string {
					return re.ReplaceAllString(s, r.value(m[2]))
				})
			}
		}, nil
	}
	c, ok := changes[s]
	if !ok {
		return nil, fmt.Errorf("unknown change %q", s)
	}
	return c, nil
}

// changes are those that have no parameter.
var changes = map[string]change{
	"no calls": func(_ *replay, e *expectation) { e.calls = nil },
	"no grant": func(_ *replay, e *expectation) {
		e.calls = slices.DeleteFunc(slices.Clone(e.calls), func(c seen) bool { return c.Op == "grant-access" })
	},
	"no guest request":          func(_ *replay, e *expectation) { e.calls = hostOnly(e.calls) },
	"exempt":                    func(r *replay, e *expectation) { r.exempt[arg[string](r, e.Step, "hostPath")]++ },
	"the guest is told the NIC": func(_ *replay, e *expectation) { tellNIC(e.calls) },
	"the resource type is told": func(_ *replay, e *expectation) {
		for _, c := range e.calls {
			if g := guestRequest(c); g != nil && g["ResourceType"] == nil {
				g["ResourceType"] = string(hcsschema.ResourceNetwork)
			}
		}
	},
	"no address": func(_ *replay, e *expectation) {
		for _, c := range e.calls {
			if s, ok := guestRequest(c)["Settings"].(map[string]any); ok && s["IPAddress"] == "<nil>" {
				delete(s, "IPAddress")
			}
		}
	},
	"the first id": func(r *replay, e *expectation) {
		ids := r.model.device(e.Step).ids
		for _, c := range e.calls {
			mapStrings(c.Document, func(s string) string {
				for _, id := range ids[1:] {
					s = strings.ReplaceAll(s, id, ids[0])
				}
				return s
			})
		}
	},
	"as what is attached":             expectDisk,
	"the first name":                  firstName,
	"the others go too":               removeOthers,
	"the guest is not asked again":    func(r *replay, e *expectation) { e.calls = r.model.hostHalves(e.calls) },
	"the NIC is disowned":             disownNIC,
	"the guest is told its addresses": tellAddresses,
	"as what is shared":               func(r *replay, e *expectation) { r.vsmb.expect(r, e) },
	"all is released":                 releaseAll,
	"the limit is set": func(r *replay, e *expectation) {
		for _, c := range e.calls {
			limitContainer(c.Document, processorLimit(r, e.Step))
		}
	},
	"left out": func(r *replay, e *expectation) {
		r.exempt[arg[string](r, e.Step, "hostPath")]--
		e.skip = true
	},
}

// guestRequest is the guest's half of a call, if it has one.
func guestRequest(c seen) map[string]any {
	m, _ := c.Document.(map[string]any)
	for _, k := range []string{"Request", "GuestRequest"} {
		if g, ok := m[k].(map[string]any); ok {
			return g
		}
	}
	return nil
}

// hostOnly takes the guest's halves away.
func hostOnly(calls []seen) []seen {
	var l []seen
	for _, c := range calls {
		if strings.HasPrefix(c.Op, "bridge:") {
			continue
		}
		if m, ok := c.Document.(map[string]any); ok {
			delete(m, "GuestRequest")
		}
		l = append(l, c)
	}
	return l
}

// tellNIC puts the id of the NIC, which the host's half has in its path, into
// the guest's half of a Remove.
func tellNIC(calls []seen) {
	for i, c := range calls {
		m, _ := c.Document.(map[string]any)
		g := guestRequest(c)
		host := m
		if m["Request"] != nil && i+1 < len(calls) {
			host, _ = calls[i+1].Document.(map[string]any)
		}
		if s, isNIC := g["Settings"].(map[string]any); isNIC && g["ResourceType"] == "Network" && g["RequestType"] == "Remove" {
			path, _ := host["ResourcePath"].(string)
			s["ID"] = path[strings.LastIndex(path, "/")+1:]
		}
	}
}

// disownNIC adds that the guest forgets the NIC that was announced to it, if
// it was and then did not come.
func disownNIC(r *replay, e *expectation) {
	for i := len(e.calls) - 1; i >= 0; i-- {
		g := guestRequest(e.calls[i])
		s, _ := g["Settings"].(map[string]any)
		if s["RequestType"] != "PreAdd" {
			continue
		}
		if i+1 == len(e.calls) {
			return // it was the announcement that failed
		}
		settings := map[string]any{"RequestType": "Remove"}
		for _, k := range []string{"AdapterId", "AdapterInstanceId"} {
			if s[k] != nil {
				settings[k] = s[k]
			}
		}
		e.calls = append(slices.Clip(e.calls), r.guestCall(map[string]any{
			"RequestType": "Remove", "ResourceType": "Network", "Settings": settings,
		}))
		return
	}
}

// guestCall is a request to the guest alone, as the connection of the
// recording has it.
func (r *replay) guestCall(request map[string]any) seen {
	c := seen{Op: "modify", System: r.opts.ID, Step: r.step}
	if !r.opts.ExternalGuestConnection {
		c.Document = map[string]any{"GuestRequest": request}
		return c
	}
	const vm = "00000000-0000-0000-0000-000000000000"
	c.Op = "bridge:ModifySettings"
	c.Document = map[string]any{"ContainerId": vm, "ActivityId": vm, "Request": request}
	return c
}

// tellAddresses adds what a guest is told after the negotiation.
func tellAddresses(r *replay, e *expectation) {
	if !slices.ContainsFunc(e.calls, func(c seen) bool { return c.Op == "bridge:NegotiateProtocol" }) {
		return
	}
	e.calls = append(slices.Clip(e.calls), r.guestCall(map[string]any{
		"RequestType": "Update", "ResourceType": "HvSocket",
		"Settings": map[string]any{
			"LocalAddress":  "{{GUID_1000}}", // the runtime id, which the recordings do not have
			"ParentAddress": "894cc2d6-9d79-424f-93fe-42969ae6d8d1",
		},
	}))
}

// processorLimit is what the specification of a Windows container says of a
// limit or weight of its processors, or nil.
func processorLimit(r *replay, s Step) map[string]any {
	if !r.rec.Windows() {
		return nil
	}
	var spec struct {
		Windows struct {
			Resources struct {
				CPU struct {
					Count           uint64
					Maximum, Shares uint16
				}
			}
		}
		Annotations map[string]json.Number
	}
	if len(s.Args["spec"]) == 0 || json.Unmarshal(s.Args["spec"], &spec) != nil {
		return nil
	}
	cpu := spec.Windows.Resources.CPU
	limit := map[string]any{}
	if cpu.Maximum > 0 {
		limit["Maximum"] = json.Number(fmt.Sprint(cpu.Maximum))
	}
	if cpu.Shares > 0 {
		limit["Weight"] = json.Number(fmt.Sprint(cpu.Shares))
	}
	for name, key := range map[string]string{"limit": "Maximum", "weight": "Weight"} {
		if v := spec.Annotations["io.microsoft.container.processor."+name]; v != "" {
			limit[key] = v
		}
	}
	if len(limit) != 1 || cpu.Count > 0 {
		return nil
	}
	return limit
}

// limitContainer sets the limit in the document of a container.
func limitContainer(doc any, limit map[string]any) {
	m, _ := doc.(map[string]any)
	for _, k := range []string{"HostedSystem", "ContainerConfig"} {
		hosted, _ := m[k].(map[string]any)
		if c, ok := hosted["Container"].(map[string]any); ok {
			c["Processor"] = limit
		}
	}
}
