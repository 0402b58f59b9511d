package uvm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/uvm"
)

// lab is the folder under which all files of the recordings lie.
const lab = `C:\lab`

// fixtures are the files of the recordings, with their sizes; a folder has
// the size -1.
var fixtures = map[string]int{
	"boot/kernel": 1024, "boot/initrd.img": 1024, "boot/rootfs.vhd": 1024, "boot/rootfs2.vhdx": 1024,
	"boot/vmlinux": 1024, "boot/custom-kernel": 1024, "boot/custom.img": 1024,
	"boot-initrd/kernel": 10, "boot-initrd/initrd.img": 10,
	"disks/a.vhdx": 4096, "disks/b.vhdx": 4096, "disks/c.vhdx": 4096, "disks/data.vhdx": 512,
	"layers/a.vhd": 4096, "layers/b.vhd": 4096,
	"share/f1.txt": 3, "vs/dir1": -1, "vs/dir2": -1, "vs/files/one.txt": 1, "vs/files/two.txt": 1,
	"lcow/l1/layer.vhd": 4096, "lcow/l2/layer.vhd": 4096, "lcow/scratch/sandbox.vhdx": 4096,
}

// A replay runs the steps of a recording.
type replay struct {
	t      *testing.T
	rec    *recording
	rules  []*rule
	root   string // where lab is on this host
	engine *hcstest.Engine
	guest  *hcstest.Guest
	opts   *uvm.OptionsLCOW
	vm     *uvm.UtilityVM

	step   int
	steps  []int // the step of each call of the engine
	guids  map[string]string
	shares []*uvm.Plan9Share
	model  model
	exempt map[string]bool // paths whose next Remove is left out
}

func newReplay(t *testing.T, rec *recording, rules []*rule) *replay {
	r := &replay{t: t, rec: rec, rules: rules, root: t.TempDir(), guids: make(map[string]string), exempt: make(map[string]bool)}
	r.guest = &hcstest.Guest{HostMessages: true} // as the stand-in of the recordings
	for name, size := range fixtures {
		r.fixture(name, size)
	}
	for i := range 65 {
		r.fixture(fmt.Sprintf("disks/fill%02d.vhdx", i), 512)
	}
	r.engine = hcstest.New(hcstest.Config{
		Host: hcs.HostInfo{Build: rec.Build, Processors: 2, PMemRemovable: true},
		Boot: r.guest.Boot,
		Hook: script(t, rec.Fake["FAKEHCS_FAIL"]),
	})
	return r
}

// script returns the hook for a script of failures: "Call:nth:hresult".
func script(t *testing.T, s string) func(context.Context, hcstest.Call) error {
	if s == "" {
		return nil
	}
	f := strings.Split(s, ":")
	op, ok := map[string]string{
		"HcsCreateComputeSystem":        hcstest.OpCreate,
		"CreateCompleted":               hcstest.OpCreate,
		"HcsGetComputeSystemProperties": hcstest.OpCreated,
		"HcsStartComputeSystem":         hcstest.OpStart,
		"HcsModifyComputeSystem":        hcstest.OpModify,
		"GrantVmAccess":                 hcstest.OpGrantAccess,
	}[f[0]]
	if !ok || len(f) != 3 {
		t.Fatalf("unknown script %q", s)
	}
	nth, err := strconv.Atoi(f[1])
	if err != nil {
		t.Fatal(err)
	}
	if op == hcstest.OpCreated { // the query with which the reference ends the creation
		nth = 1
	}
	return hcstest.FailNth(op, nth, fmt.Errorf("scripted failure %s", f[2]))
}

func (r *replay) fixture(name string, size int) {
	r.t.Helper()
	p := filepath.Join(r.root, filepath.FromSlash(name))
	dir := filepath.Dir(p)
	if size < 0 {
		dir = p
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	if size >= 0 {
		if err := os.WriteFile(p, make([]byte, size), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}

// here returns a path of the recording on this host.
func (r *replay) here(s string) string {
	if rest, ok := strings.CutPrefix(s, lab); ok && (rest == "" || rest[0] == '\\') {
		return r.root + filepath.FromSlash(strings.ReplaceAll(rest, `\`, "/"))
	}
	return s
}

// there returns v with the paths of this host as the recording has them.
func (r *replay) there(v any) any {
	switch v := v.(type) {
	case string:
		if rest, ok := strings.CutPrefix(v, r.root); ok {
			return lab + strings.ReplaceAll(filepath.ToSlash(rest), "/", `\`)
		}
	case []any:
		for i := range v {
			v[i] = r.there(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = r.there(v[k])
		}
	}
	return v
}

func (r *replay) options() *uvm.OptionsLCOW {
	r.t.Helper()
	o := &uvm.OptionsLCOW{Options: new(uvm.Options)}
	if err := json.Unmarshal(r.rec.Options, o); err != nil {
		r.t.Fatal(err)
	}
	o.BootFilesPath = r.here(o.BootFilesPath)
	o.Engine = r.engine
	return o
}

func (r *replay) run() {
	t := r.t
	r.opts = r.options()
	want := r.rec.want(t)
	defer func() {
		if r.vm != nil {
			r.vm.Close()
		}
	}()
	for i, s := range r.rec.Steps {
		r.step = i
		e := expectation{step: s, calls: callsOf(want, i)}
		for _, rule := range r.rules {
			if rule.applies(r, s) {
				rule.used.Add(1)
				rule.change(r, &e)
			}
		}
		if e.skip {
			want = replaceCalls(want, i, nil)
			continue
		}
		result, err := r.do(s)
		r.model.note(s, err, r)
		for len(r.steps) < len(r.engine.Calls()) {
			r.steps = append(r.steps, i)
		}
		want = replaceCalls(want, i, e.calls)
		r.checkResult(e, result, err)
		if r.vm == nil { // there is nothing to go on with
			want = slices.DeleteFunc(want, func(c seen) bool { return c.Step > i })
			break
		}
	}
	r.checkSockets()
	got := r.got()
	if w, g := lines(t, want), lines(t, got); !slices.Equal(w, g) {
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
		if n := r.guest.Entropy(r.opts.ID); s.Port == hcs.EntropyPort && n != int64(s.Bytes) {
			r.t.Errorf("the guest got %d bytes of entropy, want %d", n, s.Bytes)
		}
	}
	for i, c := range r.engine.Calls() {
		if c.Op == hcstest.OpListen && r.steps[i] == 0 {
			got = append(got, c.Path)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		r.t.Errorf("listening on %s, want %s", got, want)
	}
}

func callsOf(calls []seen, step int) []seen {
	var l []seen
	for _, c := range calls {
		if c.Step == step {
			l = append(l, c)
		}
	}
	return l
}

func replaceCalls(calls []seen, step int, by []seen) []seen {
	var l []seen
	done := false
	for _, c := range calls {
		if c.Step == step {
			continue
		}
		if c.Step > step && !done {
			l, done = append(l, by...), true
		}
		l = append(l, c)
	}
	if !done {
		l = append(l, by...)
	}
	return l
}

// got returns the calls that are compared.
func (r *replay) got() []seen {
	var calls []seen
	ops := make(map[string]bool)
	for _, op := range compared {
		ops[op] = true
	}
	vm := ""
	for i, c := range r.engine.Calls() {
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

// diff shows where two lists of lines part.
func diff(want, got []string) string {
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	at := func(l []string, i int) string {
		if i < len(l) {
			return l[i]
		}
		return "(nothing)"
	}
	return fmt.Sprintf("at call %d of %d, %d:\nwant %s\n     %s\ngot  %s\n     %s",
		i+1, len(want), len(got), at(want, i), at(want, i+1), at(got, i), at(got, i+1))
}

// An expectation is what a step should do.
type expectation struct {
	step
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
		if err != class {
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
	b, err := json.Marshal(result)
	if err != nil {
		r.t.Fatal(err)
	}
	want, got := parse(r.t, e.Result), r.there(parse(r.t, b))
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
func arg[T any](r *replay, s step, name string) (v T) {
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

// do carries a step out.
func (r *replay) do(s step) (any, error) {
	ctx := r.t.Context()
	str := func(name string) string { return arg[string](r, s, name) }
	op, _, _ := strings.Cut(s.Op, "(")
	if s.Op[0] == '(' {
		op = s.Op
	}
	switch op {
	case "CreateLCOW":
		vm, err := uvm.CreateLCOW(ctx, r.opts)
		r.vm = vm
		return nil, err
	case "Start":
		return nil, r.vm.Start(ctx)
	case "Wait":
		return nil, r.vm.Wait()
	case "ExitError":
		return nil, r.vm.ExitError()
	case "Terminate":
		return nil, r.vm.Terminate(ctx)
	case "Close":
		return nil, r.vm.Close()
	case "(guest exits)":
		status, err := strconv.ParseUint(str("status"), 0, 32)
		if err != nil {
			r.t.Fatal(err)
		}
		r.engine.System(r.vm.ID()).Exit(exitOf(uint32(status)))
		return nil, nil
	case "AddSCSI":
		return r.vm.AddSCSI(ctx, str("hostPath"), str("uvmPath"), arg[bool](r, s, "readOnly"), uvm.VMAccessType(arg[int](r, s, "vmAccess")))
	case "AddSCSIPhysicalDisk":
		return r.vm.AddSCSIPhysicalDisk(ctx, str("hostPath"), str("uvmPath"), arg[bool](r, s, "readOnly"))
	case "RemoveSCSI":
		return nil, r.vm.RemoveSCSI(ctx, str("hostPath"))
	case "GetScsiUvmPath":
		return r.vm.GetScsiUvmPath(ctx, str("hostPath"))
	case "AddVPMEM":
		return r.vm.AddVPMEM(ctx, str("hostPath"))
	case "RemoveVPMEM":
		return nil, r.vm.RemoveVPMEM(ctx, str("hostPath"))
	case "CombineLayersLCOW":
		return nil, r.vm.CombineLayersLCOW(ctx, arg[[]string](r, s, "layers"), str("scratch"), str("rootfs"))
	case "CombineLayersWCOW":
		return nil, r.vm.CombineLayersWCOW(ctx, nil, "")
	case "RemoveCombinedLayers":
		return nil, r.vm.RemoveCombinedLayers(ctx, str("rootfs"))
	case "CreateContainer":
		return r.container(ctx, str("id"), s.Args["settings"])
	case "CreateProcess":
		return r.process(ctx, s.Args["params"])
	case "AddVSMB":
		return r.vm.AddVSMB(ctx, str("hostPath"), nil, nil)
	case "RemoveVSMB":
		return nil, r.vm.RemoveVSMB(ctx, str("hostPath"))
	case "AddPlan9":
		share, err := r.vm.AddPlan9(ctx, str("hostPath"), str("uvmPath"), arg[bool](r, s, "readOnly"), arg[bool](r, s, "restrict"), arg[[]string](r, s, "allowedNames"))
		if err == nil {
			r.shares = append(r.shares, share)
		}
		return nil, err
	case "RemovePlan9":
		return nil, r.vm.RemovePlan9(ctx, r.nextShare())
	case "AddPipe":
		p := str("hostPath")
		if len(s.Args) == 0 {
			p = "x"
		}
		return r.vm.AddPipe(ctx, p)
	case "RemovePipe":
		return nil, r.vm.RemovePipe(ctx, str("hostPath"))
	case "GetContainerPipeMapping":
		src, dst := uvm.GetContainerPipeMapping(r.vm, specs.Mount{Source: str("source"), Destination: str("destination")})
		return map[string]string{"src": src, "dst": dst}, nil
	case "AddNetNS":
		return nil, r.vm.AddNetNS(ctx, str("id"))
	case "RemoveNetNS":
		return nil, r.vm.RemoveNetNS(ctx, str("id"))
	case "AddEndpointsToNS":
		return nil, r.vm.AddEndpointsToNS(ctx, str("id"), arg[[]*hns.HNSEndpoint](r, s, "endpoints"))
	case "RemoveEndpointsFromNS":
		return nil, r.vm.RemoveEndpointsFromNS(ctx, str("id"), arg[[]*hns.HNSEndpoint](r, s, "endpoints"))
	case "AssignDevice":
		return r.vm.AssignDevice(ctx, arg[hcsschema.VirtualPciDevice](r, s, "device"))
	case "RemoveDevice":
		return nil, r.vm.RemoveDevice(ctx, str("id"))
	}
	r.t.Fatalf("unknown step %s", s.Op)
	return nil, nil
}

// exitOf is the end with which the Host Compute Service reports a status.
func exitOf(status uint32) *hcs.Exit {
	switch status {
	case 0:
		return &hcs.Exit{Kind: hcs.ExitGuest}
	case hcs.CodeUnexpectedExit:
		return &hcs.Exit{Kind: hcs.ExitVMMCrash, Code: status}
	}
	return &hcs.Exit{Kind: hcs.ExitOther, Code: status}
}

// nextShare is the share that a RemovePlan9 is about: the second, the first,
// then each but the third.
func (r *replay) nextShare() *uvm.Plan9Share {
	order := []int{1, 0}
	for i := 3; i < len(r.shares); i++ {
		order = append(order, i)
	}
	n := 0
	for _, s := range r.rec.Steps[:r.step] {
		if s.Op == "RemovePlan9" {
			n++
		}
	}
	if n >= len(order) || order[n] >= len(r.shares) {
		return nil
	}
	return r.shares[order[n]]
}

// container creates, starts and terminates a container.
func (r *replay) container(ctx context.Context, id string, settings json.RawMessage) (any, error) {
	c, err := r.vm.CreateContainer(ctx, id, settings)
	if err != nil {
		return nil, err
	}
	result := map[string]any{"id": c.ID(), "isOCI": c.IsOCI(), "os": c.OS()}
	if !r.opts.ExternalGuestConnection {
		result["os"] = "windows" // the recording host said of every system
	}
	return result, errors.Join(c.Start(ctx), c.Terminate(ctx), c.Close())
}

// process has a process echo, resizes its console, and signals it.
func (r *replay) process(ctx context.Context, params json.RawMessage) (any, error) {
	p, err := r.vm.CreateProcess(ctx, params)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	in, out, _ := p.Stdio()
	if _, err := io.WriteString(in, "hello\n"); err != nil {
		return nil, err
	}
	b := make([]byte, 6)
	if _, err := io.ReadFull(out, b); err != nil || string(b) != "hello\n" {
		return nil, fmt.Errorf("read %q, %w", b, err)
	}
	if err := p.ResizeConsole(ctx, 100, 40); err != nil {
		return nil, err
	}
	signalled, err := p.Signal(ctx, hcsschema.SignalProcessOptionsLCOW{Signal: 15})
	if err != nil {
		return nil, err
	}
	if err := p.Wait(); err != nil {
		return nil, err
	}
	code, err := p.ExitCode()
	if err != nil || code != 143 {
		return nil, fmt.Errorf("exit code %d, %w", code, err)
	}
	delivered, err := p.Kill(ctx)
	return map[string]any{
		"stdout": string(b), "signal": signalled, "kill": delivered, "exit": code, "pid": 1000, // the guest's choice
		"readErr": "", "resizeErr": "", "signalErr": "", "waitErr": "", "exitErr": "", "killErr": "", "closeErr": "",
	}, err
}
