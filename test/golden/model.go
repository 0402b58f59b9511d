package golden

import (
	"encoding/json"
	"fmt"
)

// A model knows which disks and devices are attached, as the rules need it.
type model struct {
	disks   map[string]*modelDisk
	devices map[string]*modelDevice // by what they are on the host
}

// A modelDevice is a device that was assigned, and the ids that the recording
// has for it: one for each time.
type modelDevice struct {
	n   int
	ids []string
}

type modelDisk struct {
	n    int
	mode string
}

func (m *model) key(r *replay, s Step) string { return arg[string](r, s, "hostPath") }

func (m *model) mode(r *replay, s Step) string {
	return fmt.Sprint(s.name(), arg[bool](r, s, "readOnly"))
}

func (m *model) attached(r *replay, s Step) bool {
	d := m.disks[m.key(r, s)]
	return d != nil && d.n > 0
}

func (m *model) otherMode(r *replay, s Step) bool {
	return m.attached(r, s) && m.disks[m.key(r, s)].mode != m.mode(r, s)
}

// device returns the device that a step is about, or nil.
func (m *model) device(s Step) *modelDevice {
	if s.name() == "AssignDevice" {
		return m.devices[string(s.Args["device"])]
	}
	var id string
	if json.Unmarshal(s.Args["id"], &id) != nil || id == "" {
		return nil
	}
	for _, d := range m.devices {
		for _, x := range d.ids {
			if x == id && d.n > 0 {
				return d
			}
		}
	}
	return nil
}

func (m *model) noteDevice(s Step) {
	if d := m.device(s); s.name() == "RemoveDevice" {
		if d != nil {
			d.n--
		}
		return
	}
	if m.devices == nil {
		m.devices = make(map[string]*modelDevice)
	}
	k := string(s.Args["device"])
	d := m.devices[k]
	if d == nil || d.n == 0 {
		d = new(modelDevice)
		m.devices[k] = d
	}
	d.n++
	var result struct{ ID string }
	if json.Unmarshal(s.Result, &result) == nil && result.ID != "" {
		d.ids = append(d.ids, result.ID)
	}
}

// note takes account of a step that has been done.
func (m *model) note(s Step, err error, r *replay) {
	if err != nil {
		return
	}
	switch s.name() {
	case "AssignDevice", "RemoveDevice":
		m.noteDevice(s)
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
