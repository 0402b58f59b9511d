package golden

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
)

// A Recording is a program of API calls and everything that reached host and
// guest because of it; uvm/testdata/golden/README.md describes it.
type Recording struct {
	Case    string
	Build   int
	Options json.RawMessage
	Fake    map[string]string
	Steps   []Step
	Calls   []RecordedCall
	Sockets []Socket
	Error   *string
}

// A Step is a call of the API, with its result.
type Step struct {
	Op     string
	Args   map[string]json.RawMessage
	Result json.RawMessage
	Error  string
}

// name is the call without a remark.
func (s Step) name() string {
	if op, _, ok := strings.Cut(s.Op, "("); ok && op != "" {
		return op
	}
	return s.Op
}

// A RecordedCall is something that reached the host or the guest during a
// step.
type RecordedCall struct {
	Call     string
	System   string
	Step     int
	Path     string
	Document json.RawMessage
	Options  json.RawMessage
}

// A Socket is a service that was listened on, or a connection.
type Socket struct {
	Listen string
	Bytes  int
	Port   uint32
	Step   int
}

// Windows reports whether the guest is Windows.
func (rec *Recording) Windows() bool { return len(rec.Steps) > 0 && rec.Steps[0].Op == "CreateWCOW" }

// Host is what the engine says of its host.
func (rec *Recording) Host() hcs.HostInfo {
	return hcs.HostInfo{Build: rec.Build, Processors: 2, PMemRemovable: true}
}

// names reports whether an argument of a step is a file of that name.
func (rec *Recording) names(file string) bool {
	for _, s := range rec.Steps {
		for _, a := range s.Args {
			if bytes.Contains(a, []byte(file)) {
				return true
			}
		}
	}
	return false
}

// notCovered says why a recording is not replayed, or "".
func (rec *Recording) notCovered() string {
	for _, s := range rec.Steps {
		if s.Op == "CreateComputeSystem" {
			return "recorded below package uvm"
		}
	}
	if len(rec.Steps) > 0 && rec.Steps[0].Op != "CreateLCOW" && rec.Steps[0].Op != "CreateWCOW" {
		return "a container without a utility VM"
	}
	return ""
}

// compared maps the calls that are compared to the operations of package
// hcstest; the order of the others is not.
var compared = map[string]string{
	"HcsCreateComputeSystem":    "create",
	"HcsModifyComputeSystem":    "modify",
	"HcsCreateProcess":          "create-process",
	"HcsModifyProcess":          "modify-process",
	"HcsSignalProcess":          "signal-process",
	"GrantVmAccess":             "grant-access",
	"HcsStartComputeSystem":     "start",
	"HcsShutdownComputeSystem":  "shutdown",
	"HcsTerminateComputeSystem": "terminate",
}

// once are the operations of which it only counts that they happened in a
// step.
var once = map[string]bool{"start": true, "shutdown": true, "terminate": true}

// want returns the calls of the recording that are compared. Those that name
// no system are the VM's.
func (rec *Recording) want(t testing.TB) []seen {
	var calls []seen
	vm := ""
	for _, c := range rec.Calls {
		if vm == "" {
			vm = c.System
		}
		op := compared[c.Call]
		if strings.HasPrefix(c.Call, "bridge:") {
			op = c.Call
		}
		if op == "" {
			continue
		}
		s := seen{Op: op, System: cmp.Or(c.System, vm), Step: c.Step}
		switch {
		case once[op]:
		case op == "grant-access":
			s.Path = c.Path
		case op == "signal-process":
			s.Document = parse(t, c.Options)
		default:
			s.Document = parse(t, c.Document)
		}
		calls = append(calls, s)
	}
	return calls
}

// parse returns a document with the JSON texts in it parsed and without what
// is not compared.
func parse(t testing.TB, b json.RawMessage) any {
	t.Helper()
	if len(b) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	delete(m, "ocsc")
	inner := func(m map[string]any, k string) {
		if s, ok := m[k].(string); ok {
			m[k] = parse(t, json.RawMessage(s))
		}
	}
	inner(m, "ContainerConfig")
	inner(m, "Query")
	if s, ok := m["Settings"].(map[string]any); ok {
		inner(s, "ProcessParameters")
	}
	return m
}

// document returns v as [parse] returns it.
func document(t testing.TB, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, b)
}
