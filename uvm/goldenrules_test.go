package uvm_test

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// A rule is a line of the table in docs/differences.md: a step that it is
// about, conditions that must all hold, and what is expected instead. The
// words that conditions and changes are made of are explained there.
type rule struct {
	number  string // of spec §6
	step    *regexp.Regexp
	when    []condition
	instead []change
	used    atomic.Int64
}

type (
	condition func(*replay, step) bool
	change    func(*replay, *expectation)
)

func (r *rule) applies(p *replay, s step) bool {
	if !r.step.MatchString(s.Op) {
		return false
	}
	for _, c := range r.when {
		if !c(p, s) {
			return false
		}
	}
	return true
}

func (r *rule) change(p *replay, e *expectation) {
	for _, c := range r.instead {
		c(p, e)
	}
}

// readRules reads the table: every line that starts with "| B".
func readRules(t *testing.T, file string) []*rule {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rules []*rule
	for s := bufio.NewScanner(f); s.Scan(); {
		if !strings.HasPrefix(s.Text(), "| B") {
			continue
		}
		cells := strings.Split(strings.Trim(s.Text(), "|"), " | ")
		if len(cells) != 5 {
			t.Fatalf("%d cells in %q", len(cells), s.Text())
		}
		r := &rule{number: strings.TrimSpace(cells[0])}
		if r.step, err = regexp.Compile("^(" + strings.ReplaceAll(strings.Trim(cells[1], " `"), `\|`, "|") + ")$"); err != nil {
			t.Fatal(err)
		}
		for _, text := range phrases(cells[2]) {
			c, err := parseCondition(text)
			if err != nil {
				t.Fatalf("rule %s: %v", r.number, err)
			}
			r.when = append(r.when, c)
		}
		for _, text := range phrases(cells[3]) {
			c, err := parseChange(text)
			if err != nil {
				t.Fatalf("rule %s: %v", r.number, err)
			}
			r.instead = append(r.instead, c)
		}
		if len(r.instead) == 0 {
			t.Fatalf("rule %s changes nothing", r.number)
		}
		rules = append(rules, r)
	}
	return rules
}

// phrases splits a cell at semicolons outside of quotes.
func phrases(cell string) []string {
	var l []string
	for _, p := range strings.Split(strings.TrimSpace(cell), "; ") {
		if p = strings.TrimSpace(p); p != "" && p != "always" {
			l = append(l, p)
		}
	}
	return l
}

var (
	optionIs  = regexp.MustCompile("^option `(\\w+)` (=|>|<|ends with) `([^`]*)`$")
	errorIs   = regexp.MustCompile("^error `(.*)`$")
	resultIs  = regexp.MustCompile("^result `(.*)`$")
	replaceIs = regexp.MustCompile("^`(.*)` becomes `(.*)`$")
)

func parseCondition(s string) (condition, error) {
	if m := optionIs.FindStringSubmatch(s); m != nil {
		return func(r *replay, _ step) bool { return holds(r.option(m[1]), m[2], r.value(m[3])) }, nil
	}
	if m := errorIs.FindStringSubmatch(s); m != nil {
		return func(_ *replay, s step) bool { return s.Error == m[1] }, nil
	}
	c, ok := map[string]condition{
		"recorded success":            func(_ *replay, s step) bool { return s.Error == "" },
		"no SCSI controller":          func(r *replay, _ step) bool { return r.opts.SCSIControllerCount == 0 },
		"path attached":               func(r *replay, s step) bool { return r.model.attached(r, s) },
		"path attached in other mode": func(r *replay, s step) bool { return r.model.otherMode(r, s) },
		"path not attached":           func(r *replay, s step) bool { return !r.model.attached(r, s) },
		"path exempt":                 func(r *replay, s step) bool { return r.exempt[arg[string](r, s, "hostPath")] },
	}[s]
	if !ok {
		return nil, fmt.Errorf("unknown condition %q", s)
	}
	return c, nil
}

func holds(a, op, b string) bool {
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	switch op {
	case "=":
		return a == b
	case "ends with":
		return strings.HasSuffix(strings.ToLower(a), b)
	case ">":
		return err1 == nil && err2 == nil && x > y
	}
	return err1 == nil && err2 == nil && x < y
}

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
				e.calls[i].Document = substitute(e.calls[i].Document, re, r.value(m[2]))
			}
		}, nil
	}
	c, ok := map[string]change{
		"no calls": func(_ *replay, e *expectation) { e.calls = nil },
		"no grant": func(_ *replay, e *expectation) {
			var l []seen
			for _, c := range e.calls {
				if c.Op != "grant-access" {
					l = append(l, c)
				}
			}
			e.calls = l
		},
		"exempt":                    func(r *replay, e *expectation) { r.exempt[arg[string](r, e.step, "hostPath")] = true },
		"the guest is told the NIC": func(_ *replay, e *expectation) { tellNIC(e.calls) },
		"left out": func(r *replay, e *expectation) {
			delete(r.exempt, arg[string](r, e.step, "hostPath"))
			e.skip = true
		},
	}[s]
	if !ok {
		return nil, fmt.Errorf("unknown change %q", s)
	}
	return c, nil
}

// substitute replaces in every string of a document.
func substitute(v any, re *regexp.Regexp, by string) any {
	switch v := v.(type) {
	case string:
		return re.ReplaceAllString(v, by)
	case []any:
		for i := range v {
			v[i] = substitute(v[i], re, by)
		}
	case map[string]any:
		for k := range v {
			v[k] = substitute(v[k], re, by)
		}
	}
	return v
}

// tellNIC puts the id of the NIC, which the host's half has in its path, into
// the guest's half of a Remove.
func tellNIC(calls []seen) {
	for i, c := range calls {
		m, _ := c.Document.(map[string]any)
		r, ok := m["Request"].(map[string]any)
		host := m
		if !ok {
			r, ok = m["GuestRequest"].(map[string]any)
		} else if i+1 < len(calls) {
			host, _ = calls[i+1].Document.(map[string]any)
		}
		if s, isNIC := r["Settings"].(map[string]any); ok && isNIC && r["ResourceType"] == "Network" {
			path, _ := host["ResourcePath"].(string)
			s["ID"] = path[strings.LastIndex(path, "/")+1:]
		}
	}
}

// value fills in what a rule names of the host.
func (r *replay) value(s string) string {
	return strings.ReplaceAll(s, "{processors}", strconv.Itoa(r.engine.Host().Processors))
}

// option returns an option of the recording as text.
func (r *replay) option(name string) string {
	m := parse(r.t, r.rec.Options).(map[string]any)
	return fmt.Sprint(m[name])
}

// A model knows which disks are attached, as the rules need it.
type model struct {
	disks map[string]*modelDisk
}

type modelDisk struct {
	n    int
	mode string
}

func (m *model) key(r *replay, s step) string { return arg[string](r, s, "hostPath") }

func (m *model) mode(r *replay, s step) string {
	return fmt.Sprint(s.Op, arg[bool](r, s, "readOnly"))
}

func (m *model) attached(r *replay, s step) bool {
	d := m.disks[m.key(r, s)]
	return d != nil && d.n > 0
}

func (m *model) otherMode(r *replay, s step) bool {
	return m.attached(r, s) && m.disks[m.key(r, s)].mode != m.mode(r, s)
}

// note takes account of a step that has been done.
func (m *model) note(s step, err error, r *replay) {
	if err != nil {
		return
	}
	switch s.Op {
	case "AddSCSI", "AddSCSIPhysicalDisk":
		if m.disks == nil {
			m.disks = make(map[string]*modelDisk)
		}
		k := m.key(r, s)
		if m.disks[k] == nil {
			m.disks[k] = &modelDisk{mode: m.mode(r, s)}
		}
		m.disks[k].n++
	case "RemoveSCSI":
		k := m.key(r, s)
		if d := m.disks[k]; d != nil {
			if d.n--; d.n == 0 {
				delete(m.disks, k)
			}
		}
	}
}
