package golden

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A modelFolder is a folder that the guest has mounted, for all who share it in
// the same way at the same place (spec §6 B22).
type modelFolder struct {
	n       int
	name    string // that of the first who shared it
	several bool   // there were others
}

func folderKey(r *replay, s Step) string {
	names := arg[[]string](r, s, "allowedNames")
	slices.Sort(names)
	return fmt.Sprintf("%s %s %t %t %q", arg[string](r, s, "hostPath"), arg[string](r, s, "uvmPath"),
		arg[bool](r, s, "readOnly"), arg[bool](r, s, "restrict"), slices.Compact(names))
}

// alike reports whether a folder is shared in the way that the step asks for.
func (m *model) alike(r *replay, s Step) bool {
	f := m.folders[folderKey(r, s)]
	return f != nil && f.n > 0
}

// leaving is the folder that a RemovePlan9 is about, or nil.
func (m *model) leaving(r *replay) *modelFolder {
	i := r.nextShareIndex()
	if i >= len(m.shared) {
		return nil
	}
	return m.shared[i]
}

func (m *model) noteFolder(r *replay, s Step) {
	if s.name() == "RemovePlan9" {
		if f := m.leaving(r); f != nil {
			f.n--
		}
		return
	}
	if m.folders == nil {
		m.folders = make(map[string]*modelFolder)
	}
	k := folderKey(r, s)
	f := m.folders[k]
	if f == nil || f.n == 0 {
		f = new(modelFolder)
		m.folders[k] = f
		for _, c := range callsOf(r.rec.want(r.t), r.step) {
			if d, _ := c.Document.(map[string]any); d["Settings"] != nil {
				f.name, _ = d["Settings"].(map[string]any)["Name"].(string)
			}
		}
	}
	f.n++
	f.several = f.n > 1 || f.several
	m.shared = append(m.shared, f)
}

// firstName puts the name of the share into its removal.
func firstName(r *replay, e *expectation) {
	name := r.model.leaving(r).name
	set := func(m map[string]any, keys ...string) {
		for _, k := range keys {
			if m[k] != nil {
				m[k] = name
			}
		}
	}
	for _, c := range e.calls {
		d, _ := c.Document.(map[string]any)
		if s, ok := d["Settings"].(map[string]any); ok {
			set(s, "Name", "AccessName")
		}
		if s, ok := guestRequest(c)["Settings"].(map[string]any); ok {
			set(s, "ShareName")
		}
	}
}

// noteHalves takes account of the Removes that the guest has heard of and the
// host did not carry out.
func (m *model) noteHalves(r *replay) {
	calls, n := callsOf(r.want, r.step), 0
	for i, c := range calls {
		if c.Op != "modify" {
			continue
		}
		n++
		d, _ := c.Document.(map[string]any)
		path := pathOf(c)
		refused := r.rec.refuses(r.step, n)
		if d["RequestType"] != "Remove" || path == "" {
			continue
		}
		if m.letGo == nil {
			m.letGo = make(map[string]bool)
		}
		told := i > 0 && strings.HasPrefix(calls[i-1].Op, "bridge:")
		m.letGo[path] = refused && (told || m.letGo[path])
	}
}

func (m *model) halfGone(r *replay) bool {
	return slices.ContainsFunc(callsOf(r.want, r.step), func(c seen) bool { return m.letGo[pathOf(c)] })
}

// hostHalves takes away what the guest has done already.
func (m *model) hostHalves(calls []seen) []seen {
	var l []seen
	for i, c := range calls {
		if strings.HasPrefix(c.Op, "bridge:") && i+1 < len(calls) && m.letGo[pathOf(calls[i+1])] {
			continue
		}
		l = append(l, c)
	}
	return l
}

// nics returns the Adds of the NICs that a step is to remove, in the order of
// their endpoints, or of their Adds. Each is the host's call and, where that
// does not have it, the guest's.
func (r *replay) nics(s Step) [][]seen {
	var all [][]seen
	inStep := make(map[int]int)
	for i, c := range r.want {
		path := pathOf(c)
		d, _ := c.Document.(map[string]any)
		if c.Step >= r.step || c.Op != "modify" {
			continue
		}
		inStep[c.Step]++
		switch {
		case !strings.HasPrefix(path, "VirtualMachine/Devices/NetworkAdapters/") || r.rec.refuses(c.Step, inStep[c.Step]):
		case d["RequestType"] == "Add":
			nic := []seen{c}
			if guestRequest(c) == nil && i+1 < len(r.want) && strings.HasPrefix(r.want[i+1].Op, "bridge:") {
				nic = append(nic, r.want[i+1])
			}
			all = append(all, nic)
		default:
			all = slices.DeleteFunc(all, func(n []seen) bool { return pathOf(n[0]) == path })
		}
	}
	if s.name() == "RemoveNetNS" {
		return all
	}
	var some [][]seen
	for _, e := range arg[[]struct{ ID string }](r, s, "endpoints") {
		for _, n := range all {
			if n[0].Document.(map[string]any)["Settings"].(map[string]any)["EndpointId"] == e.ID {
				some = append(some, n)
			}
		}
	}
	return some
}

// severalNICs reports whether a step is to remove more than one NIC, or one
// before it was and failed, so that the reference has others left.
func (r *replay) severalNICs(s Step) bool {
	several := len(r.nics(s)) > 1
	r.nicsDiffered = r.nicsDiffered || several && s.Error != ""
	return several || r.nicsDiffered
}

// removeOthers expects that every NIC that a step is about is removed, in
// order, also where the reference takes any order (B29) or stops at the first
// that fails.
func removeOthers(r *replay, e *expectation) {
	e.calls = nil
	for _, n := range r.nics(e.Step) {
		host := maps.Clone(n[0].Document.(map[string]any))
		host["RequestType"] = "Remove"
		last := n[len(n)-1]
		g := maps.Clone(guestRequest(last))
		if g != nil {
			add := g["Settings"].(map[string]any)
			g["RequestType"] = "Remove"
			g["Settings"] = map[string]any{"NamespaceID": add["NamespaceID"], "ID": add["ID"]}
		}
		switch {
		case len(n) > 1:
			e.calls = append(e.calls, r.guestCall(g))
		case g != nil:
			host["GuestRequest"] = g
		}
		e.calls = append(e.calls, seen{Op: "modify", System: r.opts.ID, Step: r.step, Document: host})
	}
}
