package golden

import "fmt"

// A model knows which disks are attached, as the rules need it.
type model struct {
	disks map[string]*modelDisk
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

// note takes account of a step that has been done.
func (m *model) note(s Step, err error, r *replay) {
	if err != nil {
		return
	}
	switch s.name() {
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
