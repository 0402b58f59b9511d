package uvm_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A recording is a program of API calls and everything that reached host and
// guest because of it; testdata/golden/README.md describes it.
type recording struct {
	Case    string
	Build   int
	Options json.RawMessage
	Fake    map[string]string
	Steps   []step
	Calls   []goldenCall
	Sockets []socket
	Error   *string
}

// A step is a call of the API, with its result.
type step struct {
	Op     string
	Args   map[string]json.RawMessage
	Result json.RawMessage
	Error  string
}

// A goldenCall is something that reached the host or the guest during a step.
type goldenCall struct {
	Call     string
	System   string
	Step     int
	Path     string
	Document json.RawMessage
	Options  json.RawMessage
}

type socket struct {
	Listen string
	Bytes  int
	Port   uint32
	Step   int
}

// TestGolden replays the recordings of the reference, in $BYRE_GOLDEN or in
// testdata/golden, on the engine in memory, and compares every document that
// reaches the host and every message that reaches the guest. Where this
// package differs on purpose, docs/differences.md has a rule for it.
func TestGolden(t *testing.T) {
	dir := os.Getenv("BYRE_GOLDEN")
	if dir == "" {
		dir = filepath.Join("testdata", "golden")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings in %s: %v", dir, err)
	}
	rules := readRules(t, filepath.Join("..", "docs", "differences.md"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		rec := new(recording)
		if err := json.Unmarshal(b, rec); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		if why := notCovered(rec); why != "" {
			t.Logf("%s is left out: %s", name, why)
			continue
		}
		t.Run(name, func(t *testing.T) { newReplay(t, rec, rules).run() })
	}
	t.Cleanup(func() {
		for _, r := range rules {
			if r.used.Load() == 0 {
				t.Logf("rule %s applied to no step", r.number)
			}
		}
	})
}

// notCovered says why a recording cannot be replayed.
func notCovered(rec *recording) string {
	for _, s := range rec.Steps {
		switch {
		case s.Op == "CreateWCOW":
			return "utility VMs for Windows containers are not there yet"
		case strings.HasPrefix(s.Op, "hcsoci."):
			return "building containers from a specification is package container's"
		case s.Op == "CreateComputeSystem":
			return "recorded below package uvm"
		}
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

// A seen call is one that is compared, in one form for both sides.
type seen struct {
	Op, System, Path string
	Step             int
	Document         any
}

// lines returns calls as comparable text, a line per call, system by system,
// GUIDs numbered in the order of their appearance.
func lines(t *testing.T, calls []seen) []string {
	t.Helper()
	var systems []string
	bySystem := make(map[string][]string)
	for _, c := range calls {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode([]any{c.Step, c.Op, c.System, c.Path, c.Document}); err != nil {
			t.Fatal(err)
		}
		l := strings.TrimSpace(b.String())
		if _, ok := bySystem[c.System]; !ok {
			systems = append(systems, c.System)
		}
		if same := bySystem[c.System]; once[c.Op] && slices.Contains(same, l) {
			continue
		}
		bySystem[c.System] = append(bySystem[c.System], l)
	}
	var all []string
	for _, s := range systems {
		all = append(all, bySystem[s]...)
	}
	return renumber(all)
}

var (
	guidText = regexp.MustCompile(`(?i)\{\{GUID_\d+\}\}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	keptGUID = regexp.MustCompile(`(?i)^(00000000-0000-0000-0000-000000000000|dcc079ae-60ba-4d07-847c-3493609c0870|acef5661-84a1-4e44-856b-6245e69f4620|.*-facb-11e6-bd58-64006a7986d3|(99999999|aaaaaaaa|bbbbbbbb)-.*)$`)
)

// renumber replaces every GUID that is no input of the test by its number.
func renumber(lines []string) []string {
	numbers := make(map[string]string)
	for i, l := range lines {
		lines[i] = guidText.ReplaceAllStringFunc(l, func(g string) string {
			if keptGUID.MatchString(g) {
				return g
			}
			g = strings.ToLower(g)
			if numbers[g] == "" {
				numbers[g] = "guid" + string(rune('A'+len(numbers)))
			}
			return numbers[g]
		})
	}
	return lines
}

// parse returns a document with the JSON texts in it parsed and without what
// is not compared.
func parse(t *testing.T, b json.RawMessage) any {
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

// want returns the calls of the recording that are compared. Those that name
// no system are the VM's.
func (rec *recording) want(t *testing.T) []seen {
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
