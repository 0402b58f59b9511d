package golden

import (
	"encoding/json"
)

// A model knows which devices, folders and pipes a VM has been given, as the
// rules need it.
type model struct {
	devices map[string]*modelDevice // by what they are on the host
	folders map[string]*modelFolder // by how they are shared
	shared  []*modelFolder          // of each AddPlan9 that succeeded
	pipes   map[string]int          // users by path
	letGo   map[string]bool         // resource paths of what the guest has let go and the host has not
}

// A modelDevice is a device that was assigned, and the ids that the recording
// has for it: one for each time.
type modelDevice struct {
	n   int
	ids []string
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
func (m *model) note(r *replay, s Step, err error) {
	m.noteHalves(r)
	if err != nil {
		return
	}
	switch s.name() {
	case "AssignDevice", "RemoveDevice":
		m.noteDevice(s)
	case "AddPlan9", "RemovePlan9":
		m.noteFolder(r, s)
	case "AddPipe":
		if m.pipes == nil {
			m.pipes = make(map[string]int)
		}
		m.pipes[arg[string](r, s, "hostPath")]++
	case "RemovePipe":
		m.pipes[arg[string](r, s, "hostPath")]--
	}
}
