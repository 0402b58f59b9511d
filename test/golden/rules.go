package golden

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
	condition func(*replay, Step) bool
	change    func(*replay, *expectation)
)

func (r *rule) applies(p *replay, s Step) bool {
	if !r.step.MatchString(s.name()) {
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
func readRules(t testing.TB, file string) []*rule {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rules []*rule
	s := bufio.NewScanner(f)
	for s.Scan() {
		if !strings.HasPrefix(s.Text(), "| B") {
			continue
		}
		r, err := parseRule(s.Text())
		if err != nil {
			t.Fatalf("%v in %q", err, s.Text())
		}
		rules = append(rules, r)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return rules
}

func parseRule(line string) (*rule, error) {
	cells := strings.Split(strings.Trim(line, "|"), " | ")
	if len(cells) != 5 {
		return nil, fmt.Errorf("%d cells", len(cells))
	}
	r := &rule{number: strings.TrimSpace(cells[0])}
	var err error
	if r.step, err = regexp.Compile("^(" + strings.ReplaceAll(strings.Trim(cells[1], " `"), `\|`, "|") + ")$"); err != nil {
		return nil, err
	}
	for _, text := range phrases(cells[2]) {
		c, err := parseCondition(text)
		if err != nil {
			return nil, err
		}
		r.when = append(r.when, c)
	}
	for _, text := range phrases(cells[3]) {
		c, err := parseChange(text)
		if err != nil {
			return nil, err
		}
		r.instead = append(r.instead, c)
	}
	if len(r.instead) == 0 {
		return nil, fmt.Errorf("a rule that changes nothing")
	}
	return r, nil
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
	guestIs   = regexp.MustCompile("^guest `(linux|windows)`$")
	errorIs   = regexp.MustCompile("^error `(.*)`$")
	resultIs  = regexp.MustCompile("^result `(.*)`$")
	replaceIs = regexp.MustCompile("^`(.*)` becomes `(.*)`$")
)

func parseCondition(s string) (condition, error) {
	if m := optionIs.FindStringSubmatch(s); m != nil {
		return func(r *replay, _ Step) bool { return holds(r.option(m[1]), m[2], r.value(m[3])) }, nil
	}
	if m := guestIs.FindStringSubmatch(s); m != nil {
		return func(r *replay, _ Step) bool { return r.rec.Windows() == (m[1] == "windows") }, nil
	}
	if m := errorIs.FindStringSubmatch(s); m != nil {
		return func(_ *replay, s Step) bool { return s.Error == m[1] }, nil
	}
	c, ok := conditions[s]
	if !ok {
		return nil, fmt.Errorf("unknown condition %q", s)
	}
	return c, nil
}

// conditions are those that have no parameter.
var conditions = map[string]condition{
	"recorded success":            func(_ *replay, s Step) bool { return s.Error == "" },
	"recorded error":              func(_ *replay, s Step) bool { return s.Error != "" },
	"no SCSI controller":          func(r *replay, _ Step) bool { return r.lcow != nil && r.lcow.SCSIControllerCount == 0 },
	"path attached":               func(r *replay, s Step) bool { return r.disks.attached(r, s) },
	"path attached in other mode": func(r *replay, s Step) bool { return r.disks.otherMode(r, s) },
	"path not attached":           func(r *replay, s Step) bool { return !r.disks.attached(r, s) },
	"disks have differed":         func(r *replay, s Step) bool { return r.disks.hasDiffered(r, s) },
	"device not assigned":         func(r *replay, s Step) bool { return r.model.device(s) == nil },
	"folder shared alike":         func(r *replay, s Step) bool { return r.model.alike(r, s) },
	"share still used":            func(r *replay, _ Step) bool { f := r.model.leaving(r); return f != nil && f.n > 1 },
	"share had several users":     func(r *replay, _ Step) bool { f := r.model.leaving(r); return f != nil && f.n == 1 && f.several },
	"pipe shared":                 func(r *replay, s Step) bool { return r.model.pipes[arg[string](r, s, "hostPath")] > 0 },
	"pipe still used":             func(r *replay, s Step) bool { return r.model.pipes[arg[string](r, s, "hostPath")] > 1 },
	"pipe not shared":             func(r *replay, s Step) bool { return r.model.pipes[arg[string](r, s, "hostPath")] == 0 },
	"several endpoints":           func(r *replay, s Step) bool { return r.severalNICs(s) },
	"guest has let go":            func(r *replay, s Step) bool { return r.model.halfGone(r) },
	"path exempt":                 func(r *replay, s Step) bool { return r.exempt[arg[string](r, s, "hostPath")] > 0 },
	"single file":                 func(r *replay, s Step) bool { return r.vsmb.single(r, s) },
	"list differs":                func(r *replay, s Step) bool { return r.vsmb.listDiffers(r, s) },
	"path shared in other mode":   func(r *replay, s Step) bool { return r.vsmb.otherMode(r, s) },
	"path shared in two modes":    func(r *replay, s Step) bool { return r.vsmb.twoModes(r, s) },
	"shares have differed":        func(r *replay, s Step) bool { return r.vsmb.hasDiffered(r, s) },
	"device assigned":             func(r *replay, s Step) bool { d := r.model.device(s); return d != nil && d.n > 0 },
	"device still used":           func(r *replay, s Step) bool { d := r.model.device(s); return d != nil && d.n > 1 },
	"device had several users":    func(r *replay, s Step) bool { d := r.model.device(s); return d != nil && d.n == 1 && len(d.ids) > 1 },
	"no container":                func(r *replay, _ Step) bool { return len(r.containers) == 0 },
	"processor limit":             func(r *replay, s Step) bool { return processorLimit(r, s) != nil },
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

// value fills in what a rule names of the host.
func (r *replay) value(s string) string {
	return strings.ReplaceAll(s, "{processors}", strconv.Itoa(r.bench.Engine().Host().Processors))
}

// option returns an option of the recording as text.
func (r *replay) option(name string) string {
	m := parse(r.t, r.rec.Options).(map[string]any)
	return fmt.Sprint(m[name])
}
