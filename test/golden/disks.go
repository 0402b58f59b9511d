package golden

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A diskModel knows which SCSI disks are attached, and what it takes to attach
// and detach them (spec §1.8). It is told of every step that was done, and
// foretells the next.
type diskModel struct {
	disks    map[string]*modelDisk // by path
	taken    [65]bool              // LUNs; the last is never given
	differed bool                  // a step did, or will do, something else than the reference then does
}

type modelDisk struct {
	n         int
	kind      string
	readOnly  bool
	guestPath string
	lun       int
	letGo     bool // by the guest
}

// A foretold step is what it does.
type foretold struct {
	calls  []seen
	result any
	err    string
	after  func() // what becomes of the model
}

// asked is the disk that an Add wants.
func (m *diskModel) asked(r *replay, s Step) modelDisk {
	d := modelDisk{kind: "VirtualDisk", readOnly: arg[bool](r, s, "readOnly"), guestPath: arg[string](r, s, "uvmPath")}
	if s.name() == "AddSCSIPhysicalDisk" {
		d.kind = "PassThru"
	}
	return d
}

func (m *diskModel) disk(r *replay, s Step) *modelDisk { return m.disks[arg[string](r, s, "hostPath")] }

func (m *diskModel) attached(r *replay, s Step) bool { return m.disk(r, s) != nil }

func (m *diskModel) otherMode(r *replay, s Step) bool {
	d, want := m.disk(r, s), m.asked(r, s)
	return d != nil && !d.letGo && (d.kind != want.kind || d.readOnly != want.readOnly)
}

// hasDiffered reports whether the reference's record of disks has parted from
// what is attached: it keeps a disk that it failed to attach (B6), loses count
// when it fails to detach one (B9), and does not mount one later (B8).
func (m *diskModel) hasDiffered(r *replay, s Step) bool {
	if d := m.disk(r, s); !m.differed && d != nil && s.Error == "" {
		m.differed = strings.HasPrefix(s.name(), "Add") && d.guestPath == "" && m.asked(r, s).guestPath != "" && !m.otherMode(r, s)
	}
	return m.differed
}

// note takes account of a step that has been done.
func (m *diskModel) note(r *replay, s Step, f *foretold, err error) {
	if (err != nil) == (f.err != "") {
		f.after()
	}
	switch {
	case s.Error == "", s.Error == "not attached", strings.HasPrefix(s.Error, "failed to grant"), r.hasEnded():
	default:
		m.differed = true
	}
}

// hasEnded reports whether a step before this one was the end of the VM.
func (r *replay) hasEnded() bool {
	return slices.ContainsFunc(r.rec.Steps[:r.step], func(s Step) bool {
		return s.Op == "(guest exits)" || s.Op == "Terminate" || s.Op == "Close"
	})
}

// foretell says what a step about a disk does; of any other step it is nil.
func (m *diskModel) foretell(r *replay, s Step) *foretold {
	switch s.name() {
	case "AddSCSI", "AddSCSIPhysicalDisk", "RemoveSCSI", "GetScsiUvmPath":
	default:
		return nil
	}
	if m.disks == nil {
		m.disks = make(map[string]*modelDisk)
		if r.wcow != nil { // the scratch is there from the beginning
			scratch := r.wcow.LayerFolders[len(r.wcow.LayerFolders)-1]
			m.disks[filepath.Join(scratch, "sandbox.vhdx")] = &modelDisk{n: 1, kind: "VirtualDisk"}
			m.taken[0] = true
		}
	}
	f := &foretold{after: func() {}}
	path, d := arg[string](r, s, "hostPath"), m.disk(r, s)
	noController := r.lcow != nil && r.lcow.SCSIControllerCount == 0
	switch {
	case s.name() == "GetScsiUvmPath":
		if f.result = ""; d == nil {
			f.err = "not attached"
		} else {
			f.result = d.guestPath
		}
	case s.name() == "RemoveSCSI":
		switch {
		case noController:
			f.err = "no SCSI controllers configured for this utility VM"
		case d == nil:
			f.err = "not attached"
		case d.n > 1:
			f.after = func() { d.n-- }
		default:
			if m.detach(r, f, d); f.err == "" {
				f.after = func() { m.forget(path) }
			}
		}
	case d == nil:
		m.attach(r, f, s, path, noController)
	case d.letGo:
		if m.detach(r, f, d); f.err == "" {
			n := d.n
			m.forget(path)
			m.attach(r, f, s, path, noController)
			if after := f.after; f.err == "" {
				f.after = func() { after(); m.disks[path].n += n }
			}
		}
	case m.otherMode(r, s):
		f.err = "already attached"
	default:
		m.share(r, f, m.asked(r, s), path, d)
	}
	return f
}

func (m *diskModel) forget(path string) {
	m.taken[m.disks[path].lun] = false
	delete(m.disks, path)
}

// attach foretells an Add of a disk that is not there.
func (m *diskModel) attach(r *replay, f *foretold, s Step, path string, noController bool) {
	if s.name() == "AddSCSIPhysicalDisk" || arg[int](r, s, "vmAccess") == 2 {
		f.calls = append(f.calls, seen{Op: "grant-access", System: r.opts.ID, Step: r.step, Path: r.there(path).(string)})
		if strings.HasPrefix(s.Error, "failed to grant") {
			f.err = s.Error
			return
		}
	}
	if noController {
		f.err = "no SCSI controllers configured for this utility VM"
		return
	}
	d := m.asked(r, s)
	for m.taken[d.lun] {
		d.lun++
	}
	if d.lun == 64 {
		f.err = "too many SCSI attachments"
		return
	}
	settings := map[string]any{"Type": d.kind, "Path": r.there(path)}
	if d.readOnly {
		settings["ReadOnly"] = true
	}
	var guest map[string]any
	if d.guestPath != "" {
		guest = d.request(r, "Add")
	}
	if m.modify(r, f, map[string]any{"RequestType": "Add", "ResourcePath": d.path(), "Settings": settings}, guest, &d); f.err != "" {
		return
	}
	f.result = d.mount(r, path)
	f.after = func() {
		d.n = 1
		m.disks[path], m.taken[d.lun] = &d, true
	}
}

// share foretells an Add of a disk that is there, which is mounted if nobody
// has asked for that before.
func (m *diskModel) share(r *replay, f *foretold, want modelDisk, path string, d *modelDisk) {
	after := *d
	after.n++
	if d.guestPath == "" && want.guestPath != "" {
		after.guestPath = want.guestPath
		if m.modify(r, f, nil, after.request(r, "Add"), d); f.err != "" {
			return
		}
	}
	f.result = after.mount(r, path)
	f.after = func() { *d = after }
}

func (m *diskModel) detach(r *replay, f *foretold, d *modelDisk) {
	var guest map[string]any
	if !d.letGo {
		guest = d.request(r, "Remove")
	}
	m.modify(r, f, map[string]any{"RequestType": "Remove", "ResourcePath": d.path()}, guest, d)
}

// modify foretells a request, whose host's half may be what the script lets
// fail.
func (m *diskModel) modify(r *replay, f *foretold, host, guest map[string]any, d *modelDisk) {
	toHost := func(doc map[string]any) {
		f.calls = append(f.calls, seen{Op: "modify", System: r.opts.ID, Step: r.step, Document: document(r.t, doc)})
		n := 0
		for _, c := range f.calls {
			if c.Op == "modify" {
				n++
			}
		}
		if r.rec.refuses(r.step, n) {
			f.err = "scripted failure"
		}
	}
	switch {
	case !r.opts.ExternalGuestConnection && guest != nil:
		all := map[string]any{"GuestRequest": guest}
		for k, v := range host {
			all[k] = v
		}
		toHost(all)
	case guest == nil:
		toHost(host)
	case host == nil:
		f.calls = append(f.calls, r.guestCall(guest))
	case host["RequestType"] == "Add":
		if toHost(host); f.err == "" {
			f.calls = append(f.calls, r.guestCall(guest))
		}
	default:
		f.calls = append(f.calls, r.guestCall(guest))
		if toHost(host); f.err != "" {
			f.after = func() { d.letGo = true }
		}
	}
}

func (d *modelDisk) path() string {
	return fmt.Sprintf("VirtualMachine/Devices/Scsi/0/Attachments/%d", d.lun)
}

// request is the guest's half (spec §2.9). Members that are zero are not there.
func (d *modelDisk) request(r *replay, kind string) map[string]any {
	s := map[string]any{}
	place := "MountPath"
	if r.rec.Windows() {
		place = "ContainerPath"
	}
	if d.guestPath != "" {
		s[place] = d.guestPath
	}
	if d.lun > 0 {
		s["Lun"] = json.Number(strconv.Itoa(d.lun))
	}
	if kind == "Add" && d.readOnly && !r.rec.Windows() {
		s["ReadOnly"] = true
	}
	return map[string]any{"RequestType": kind, "ResourceType": "MappedVirtualDisk", "Settings": s}
}

func (d *modelDisk) mount(r *replay, path string) map[string]any {
	return map[string]any{"HostPath": r.there(path), "UVMPath": d.guestPath, "Controller": 0, "LUN": d.lun}
}

// expectDisk expects what was foretold.
func expectDisk(r *replay, e *expectation) {
	f := r.foretold
	result, err := json.Marshal(f.result)
	if err != nil {
		r.t.Fatal(err)
	}
	e.calls, e.Result, e.Error = f.calls, result, f.err
}
