package golden

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/uvm"
)

// A replay runs the steps of a recording.
type replay struct {
	labAt

	t     testing.TB
	rec   *Recording
	rules []*rule
	bench Bench
	lcow  *uvm.OptionsLCOW // or wcow
	wcow  *uvm.OptionsWCOW
	opts  *uvm.Options // of either
	vm    *uvm.UtilityVM

	step         int
	steps        []int // the step of each call of the bench
	want         []seen
	guids        map[string]string
	shares       []*uvm.Plan9Share
	containers   map[string]*container.Container
	model        model
	disks        diskModel
	foretold     *foretold // of this step, if it is about a disk
	vsmb         vsmbModel
	nicsDiffered bool           // see severalNICs
	exempt       map[string]int // how many of the next Removes of a path are left out
}

func newReplay(t testing.TB, rec *Recording, rules []*rule, bench func(testing.TB, *Recording) Bench) *replay {
	r := &replay{
		labAt: newLab(t, rec), t: t, rec: rec, rules: rules, bench: bench(t, rec),
		guids: make(map[string]string), containers: make(map[string]*container.Container), exempt: make(map[string]int),
	}
	r.options()
	return r
}

func (r *replay) options() {
	r.t.Helper()
	var v any
	if r.rec.Windows() {
		r.wcow = &uvm.OptionsWCOW{Options: new(uvm.Options)}
		r.opts, v = r.wcow.Options, r.wcow
	} else {
		r.lcow = &uvm.OptionsLCOW{Options: new(uvm.Options)}
		r.opts, v = r.lcow.Options, r.lcow
	}
	if err := json.Unmarshal(r.rec.Options, v); err != nil {
		r.t.Fatal(err)
	}
	r.opts.Engine, r.opts.Network = r.bench.Engine(), network{}
	if r.wcow != nil {
		for i, l := range r.wcow.LayerFolders {
			r.wcow.LayerFolders[i] = r.here(l)
		}
	} else {
		r.lcow.BootFilesPath = r.here(r.lcow.BootFilesPath)
	}
}

func (r *replay) run() {
	t := r.t
	r.want = r.rec.want(t)
	defer func() {
		if r.vm != nil {
			r.vm.Close()
		}
	}()
	for i, s := range r.rec.Steps {
		r.step = i
		r.bench.begin(i)
		e := expectation{Step: s, calls: callsOf(r.want, i)}
		r.foretold = r.disks.foretell(r, s)
		for _, rule := range r.rules {
			if rule.applies(r, s) {
				rule.used.Add(1)
				rule.change(r, &e)
			}
		}
		if e.skip {
			r.want = replaceCalls(r.want, i, nil)
			continue
		}
		result, err := r.do(s)
		r.want = replaceCalls(r.want, i, e.calls)
		r.model.note(r, s, err)
		if r.foretold != nil {
			r.disks.note(r, s, r.foretold, err)
		}
		r.vsmb.note(s, err, r)
		for len(r.steps) < len(r.bench.Calls()) {
			r.steps = append(r.steps, i)
		}
		r.checkResult(e, result, err)
		if r.vm == nil { // there is nothing to go on with
			r.want = slices.DeleteFunc(r.want, func(c seen) bool { return c.Step > i })
			break
		}
	}
	r.checkSockets()
	if w, g := lines(t, r.want), lines(t, r.got()); !slices.Equal(w, g) {
		t.Errorf("what reached host and guest differs\n%s", diff(w, g))
	}
}

// checkSockets compares what is listened on before the start, and whether
// the guest got its entropy.
func (r *replay) checkSockets() {
	if r.vm == nil {
		return
	}
	var want, got []string
	for _, s := range r.rec.Sockets {
		if s.Listen != "" && s.Step == 0 {
			want = append(want, s.Listen)
		}
		if n := r.bench.Entropy(r.opts.ID); s.Port == hcs.EntropyPort && n != int64(s.Bytes) {
			r.t.Errorf("the guest got %d bytes of entropy, want %d", n, s.Bytes)
		}
	}
	for i, c := range r.bench.Calls() {
		if c.Op == hcstest.OpListen && i < len(r.steps) && r.steps[i] == 0 {
			got = append(got, c.Path)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		r.t.Errorf("listening on %s, want %s", got, want)
	}
}

// got returns the calls that are compared.
func (r *replay) got() []seen {
	var calls []seen
	ops := make(map[string]bool)
	for _, op := range compared {
		ops[op] = true
	}
	vm := ""
	for i, c := range r.bench.Calls() {
		if vm == "" {
			vm = c.System
		}
		isMessage := strings.HasPrefix(c.Op, "bridge:")
		if !ops[c.Op] && !(isMessage && r.opts.ExternalGuestConnection) {
			continue // of the messages that the engine itself sends there is no record
		}
		if c.Op == hcstest.OpGrantAccess && string(c.Document) != fmt.Sprint(int(hcs.AccessVM)) {
			continue // the reference changes the file's permissions itself
		}
		s := seen{Op: c.Op, System: c.System, Step: r.steps[min(i, len(r.steps)-1)]}
		switch {
		case once[c.Op]:
		case c.Op == "grant-access":
			s.Path = r.there(c.Path).(string)
		default:
			s.Document = r.there(parse(r.t, c.Document))
		}
		if isMessage || strings.HasSuffix(c.Op, "-process") {
			s.System = vm
		}
		calls = append(calls, s)
	}
	return calls
}

// An expectation is what a step should do.
type expectation struct {
	Step
	calls []seen
	skip  bool
}

// classes are the errors that callers tell apart, by the reference's texts.
// Those of the first kind are compared by identity.
var classes = map[string]error{
	"no available location": uvm.ErrNoAvailableLocation,
	"not attached":          uvm.ErrNotAttached,
	"already attached":      uvm.ErrAlreadyAttached,
	"no SCSI controllers configured for this utility VM": uvm.ErrNoSCSIControllers,
	"too many SCSI attachments":                          uvm.ErrTooManyAttachments,
	"layer size is to large for VPMEM max size":          uvm.ErrMaxVPMEMLayerSize,
	"network namespace already added":                    uvm.ErrNetNSAlreadyAttached,
	"network namespace not found":                        uvm.ErrNetNSNotFound,
}

func (r *replay) checkResult(e expectation, result any, err error) {
	r.t.Helper()
	where := fmt.Sprintf("step %d, %s", r.step, e.Op)
	switch class := classes[e.Error]; {
	case e.Error == "":
		if err != nil {
			r.t.Errorf("%s: %v", where, err)
			return
		}
	case class != nil:
		if err != class { //nolint:errorlint // callers compare by identity
			r.t.Errorf("%s: got error %v, want %v", where, err, class)
		}
		return
	case e.Error == "not supported":
		if !errors.Is(err, hcs.ErrNotSupported) {
			r.t.Errorf("%s: got error %v, want %v", where, err, hcs.ErrNotSupported)
		}
		return
	default:
		if err == nil {
			r.t.Errorf("%s: no error, want %s", where, e.Error)
		}
		return
	}
	if len(e.Result) == 0 || string(e.Result) == "null" {
		return
	}
	want, got := parse(r.t, e.Result), r.there(document(r.t, result))
	if m, ok := want.(map[string]any); ok && isPlaceholder(m["ID"]) {
		r.guids[m["ID"].(string)] = got.(map[string]any)["ID"].(string)
		return
	}
	if fmt.Sprint(want) != fmt.Sprint(got) {
		r.t.Errorf("%s: got %v, want %v", where, got, want)
	}
}

func isPlaceholder(v any) bool {
	s, ok := v.(string)
	return ok && strings.HasPrefix(s, "{{GUID_")
}

// arg returns an argument of a step.
func arg[T any](r *replay, s Step, name string) (v T) {
	r.t.Helper()
	if len(s.Args[name]) == 0 {
		return v
	}
	if err := json.Unmarshal(s.Args[name], &v); err != nil {
		r.t.Fatalf("step %d, argument %s: %v", r.step, name, err)
	}
	if p, ok := any(&v).(*string); ok {
		if *p = r.here(*p); isPlaceholder(*p) && r.guids[*p] != "" {
			*p = r.guids[*p]
		}
	}
	return v
}
