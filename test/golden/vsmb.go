package golden

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A vsmbModel knows which folders and files are shared, as the rules need it.
// It is told of every step that was done, and foretells the next.
type vsmbModel struct {
	shares        []*vsmbShare
	names, others int
	mixed         map[string]bool // folders that were shared both ways, until nothing of them is
	differed      bool            // a step was expected to do something else than recorded
}

// A vsmbShare is what a guest can open.
type vsmbShare struct {
	name     string
	dir      string // on this host
	single   bool   // single files of it
	readOnly bool
	options  map[string]any
	files    []string // those that are seen, in their order
	uses     map[string]int
}

// split returns the folder of a step's path, and the file if it is one.
func (m *vsmbModel) split(r *replay, s Step) (dir, file string, ok bool) {
	p := filepath.Clean(arg[string](r, s, "hostPath"))
	fi, err := os.Stat(p)
	if err != nil {
		return "", "", false
	}
	if fi.IsDir() {
		return p, "", true
	}
	return filepath.Dir(p), p, true
}

func readOnlyShare(r *replay, s Step) bool {
	o := arg[*hcsschema.VirtualSmbShareOptions](r, s, "options")
	return o != nil && o.ReadOnly
}

// find returns the share of a folder, or of single files in it, in that mode.
func (m *vsmbModel) find(dir string, single, readOnly bool) *vsmbShare {
	for _, s := range m.shares {
		if s.dir == dir && s.single == single && s.readOnly == readOnly {
			return s
		}
	}
	return nil
}

// used returns the share that a Remove or a look-up of a path is about.
func (m *vsmbModel) used(dir, file string) *vsmbShare {
	for _, readOnly := range []bool{true, false} {
		if s := m.find(dir, file != "", readOnly); s != nil && s.uses[file] > 0 {
			return s
		}
	}
	return nil
}

func (m *vsmbModel) mixKey(dir, file string) string { return fmt.Sprint(dir, file != "") }

// single reports whether a step is about a single file.
func (m *vsmbModel) single(r *replay, s Step) bool {
	_, file, ok := m.split(r, s)
	return ok && file != ""
}

// listDiffers reports whether the list of files in what was recorded of an
// AddVSMB is another than that of the files in use.
func (m *vsmbModel) listDiffers(r *replay, s Step) bool {
	dir, file, ok := m.split(r, s)
	if !ok || file == "" {
		return false
	}
	var want []string
	share := m.find(dir, true, readOnlyShare(r, s))
	if share != nil {
		want = append(want, share.files...)
	}
	if share == nil || share.uses[file] == 0 {
		want = append(want, arg[string](r, s, "hostPath"))
	}
	for _, c := range callsOf(r.want, r.step) {
		d, _ := c.Document.(map[string]any)
		settings, _ := d["Settings"].(map[string]any)
		return fmt.Sprint(settings["AllowedFiles"]) != fmt.Sprint(r.there(document(r.t, want))) || share != nil && share.uses[file] > 0
	}
	return false
}

// otherMode reports whether a step is about a path that is shared, but not in
// the mode that it asks for.
func (m *vsmbModel) otherMode(r *replay, s Step) bool {
	dir, file, ok := m.split(r, s)
	ro := readOnlyShare(r, s)
	return ok && m.find(dir, file != "", !ro) != nil
}

// twoModes reports whether a step is about a path that is or was shared in
// both modes.
func (m *vsmbModel) twoModes(r *replay, s Step) bool {
	dir, file, ok := m.split(r, s)
	return ok && m.mixed[m.mixKey(dir, file)]
}

// hasDiffered reports whether the uses of shares are others than those that the
// reference counted, so that what follows differs too.
func (m *vsmbModel) hasDiffered(r *replay, s Step) bool {
	_, _, ok := m.split(r, s)
	return ok && m.differed
}

// expect makes e what the step should do: only the use that is meant counts,
// and the list of a share has the files that are used.
func (m *vsmbModel) expect(r *replay, e *expectation) {
	dir, file, _ := m.split(r, e.Step)
	recorded := *e
	defer func() {
		if recorded.Error != e.Error || fmt.Sprint(recorded.calls) != fmt.Sprint(e.calls) {
			m.differed = true
		}
	}()
	switch e.name() {
	case "AddVSMB":
		m.expectAdd(r, e, dir, file)
	case "RemoveVSMB":
		m.expectRemove(r, e, dir, file)
	case "GetVSMBUvmPath":
		s := m.used(dir, file)
		if s == nil {
			e.Error = "not attached"
			return
		}
		p := `\\?\VMSMB\VSMB-{dcc079ae-60ba-4d07-847c-3493609c0870}\` + s.name
		if file != "" {
			p += `\` + filepath.Base(file)
		}
		e.Error, e.Result = "", []byte(strings.ReplaceAll(`"`+p+`"`, `\`, `\\`))
	}
}

func (m *vsmbModel) expectAdd(r *replay, e *expectation, dir, file string) {
	s := m.find(dir, file != "", readOnlyShare(r, e.Step))
	switch {
	case s == nil:
		next := m.made(r, e.Step, dir, file)
		e.calls = []seen{m.call(r, hcsschema.Add, next)}
	case file == "" || s.uses[file] > 0:
		e.calls = nil
	default:
		next := *s
		next.options = optionsOf(r, e.Step, file)
		next.files = append(append([]string(nil), s.files...), arg[string](r, e.Step, "hostPath"))
		e.calls = []seen{m.call(r, hcsschema.Update, &next)}
	}
}

func (m *vsmbModel) expectRemove(r *replay, e *expectation, dir, file string) {
	s := m.used(dir, file)
	e.Error, e.calls = "", nil
	switch {
	case s == nil:
		e.Error = "not attached"
	case s.total() == 1:
		c := m.call(r, hcsschema.Remove, s)
		c.Document.(map[string]any)["Settings"] = map[string]any{"Name": s.name}
		e.calls = []seen{c}
	case file != "" && s.uses[file] == 1:
		next := *s
		next.files = without(s.files, file)
		e.calls = []seen{m.call(r, hcsschema.Update, &next)}
	}
}

func (s *vsmbShare) total() (n int) {
	for _, u := range s.uses {
		n += u
	}
	return n
}

func without(files []string, file string) []string {
	var l []string
	for _, f := range files {
		if filepath.Clean(f) != file {
			l = append(l, f)
		}
	}
	return l
}

// call is the request that tells the host what a share is.
func (m *vsmbModel) call(r *replay, t hcsschema.RequestType, s *vsmbShare) seen {
	settings := map[string]any{"Name": s.name, "Path": s.dir, "Options": s.options}
	if len(s.files) > 0 {
		settings["AllowedFiles"] = s.files
	}
	doc := document(r.t, map[string]any{"RequestType": t, "ResourcePath": hcs.PathVSMB, "Settings": settings})
	return seen{Op: "modify", System: r.opts.ID, Step: r.step, Document: r.there(doc)}
}

func optionsOf(r *replay, s Step, file string) map[string]any {
	o := arg[hcsschema.VirtualSmbShareOptions](r, s, "options")
	if file != "" {
		o.RestrictFileAccess, o.SingleFileMapping = true, true
	}
	return document(r.t, o).(map[string]any)
}

// made is the share that a step makes.
func (m *vsmbModel) made(r *replay, s Step, dir, file string) *vsmbShare {
	n := &vsmbShare{
		dir: dir, single: file != "", readOnly: readOnlyShare(r, s),
		options: optionsOf(r, s, file), uses: map[string]int{},
	}
	if file != "" {
		n.files = []string{arg[string](r, s, "hostPath")}
	}
	n.name = fmt.Sprintf("s%x", m.names+1)
	if m.find(dir, file != "", !n.readOnly) != nil {
		n.name = fmt.Sprintf("m%x", m.others+1)
	}
	return n
}

// spent counts a name that was given out.
func (m *vsmbModel) spent(name string) {
	if name[0] == 'm' {
		m.others++
	} else {
		m.names++
	}
}

// note takes account of a step that has been done.
func (m *vsmbModel) note(s Step, err error, r *replay) {
	op := s.name()
	if !r.rec.Windows() || op != "AddVSMB" && op != "RemoveVSMB" {
		return
	}
	dir, file, ok := m.split(r, s)
	if ok && err != nil && op == "AddVSMB" && m.find(dir, file != "", readOnlyShare(r, s)) == nil {
		m.spent(m.made(r, s, dir, file).name) // and lost
	}
	if !ok || err != nil {
		return
	}
	if op == "AddVSMB" {
		share := m.find(dir, file != "", readOnlyShare(r, s))
		switch {
		case share == nil:
			share = m.made(r, s, dir, file)
			m.spent(share.name)
			if share.name[0] == 'm' {
				if m.mixed == nil {
					m.mixed = make(map[string]bool)
				}
				m.mixed[m.mixKey(dir, file)] = true
			}
			m.shares = append(m.shares, share)
		case file != "" && share.uses[file] == 0:
			share.options = optionsOf(r, s, file)
			share.files = append(share.files, arg[string](r, s, "hostPath"))
		}
		share.uses[file]++
		return
	}
	share := m.used(dir, file)
	if share == nil {
		return
	}
	if share.uses[file]--; share.uses[file] == 0 {
		share.files = without(share.files, file)
	}
	if share.total() > 0 {
		return
	}
	for i, x := range m.shares {
		if x == share {
			m.shares = append(m.shares[:i], m.shares[i+1:]...)
			break
		}
	}
	if m.find(dir, file != "", true) == nil && m.find(dir, file != "", false) == nil {
		delete(m.mixed, m.mixKey(dir, file))
	}
}
