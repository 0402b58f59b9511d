package golden

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestDevices replays programs of calls about the devices of a Linux guest that
// nobody recorded, each with a request that the host refuses: what the
// reference makes of them is worked out here, by its rules (spec §1.7 to §1.11)
// and with its defects (§6). So the rules about devices are held against more
// than the recordings show.
func TestDevices(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BYRE_GOLDEN", dir)
	for seed := range uint64(160) {
		name := "lcow-19041-default"
		external := seed%2 == 1
		if external {
			name = "lcow-19041-external-default"
		}
		b, err := os.ReadFile(filepath.Join("..", "..", "uvm", "testdata", "golden", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		rec := make(map[string]any)
		if err := json.Unmarshal(b, &rec); err != nil {
			t.Fatal(err)
		}
		ref := newDevicesRef(seed, external)
		for _, c := range rec["calls"].([]any) {
			if c.(map[string]any)["step"].(float64) < 2 {
				ref.calls = append(ref.calls, c)
			}
		}
		ref.steps = rec["steps"].([]any)[:2]
		for range 30 {
			ref.next()
		}
		rec["calls"], rec["steps"] = ref.calls, ref.steps
		if ref.nth > 0 || ref.always {
			rec["fake"] = map[string]any{"FAKEHCS_FAIL": fmt.Sprintf("HcsModifyComputeSystem:%d:80004005", ref.nth)}
		}
		out, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("devices-%d.json", seed)), out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	Run(t, Config{Rules: filepath.Join("..", "..", "docs", "differences.md")})
}

// A devicesRef does what the reference does.
type devicesRef struct {
	rand         *rand.Rand
	external     bool
	kind         int  // what the program is about
	always       bool // the host refuses every request
	refuseAt     int  // the step from which on the host refuses a request
	nth, n       int  // the number of that request; those that the host got
	spared       bool // a rule says that the host does not get the next request
	calls, steps []any

	scsi      [65]*refDisk
	vpmem     [3]*refLayer
	folders   int
	shared    []refFolder
	removed   int
	devices   map[string]string // what they are, by id
	uses      map[string]int    // as they should be counted
	namespace bool
	nics      []refNIC
	pending   map[string]bool // what failed to be removed
	guids     int
}

type refDisk struct {
	path, at string
	readOnly bool
	n        uint32
}

type refLayer struct {
	path string
	n    int
}

type refFolder struct{ name, at, key string }

type refNIC struct{ id, endpoint string }

type object = map[string]any

var errRefused = errors.New("scripted failure")

func newDevicesRef(seed uint64, external bool) *devicesRef {
	r := rand.New(rand.NewPCG(seed, 1))
	return &devicesRef{rand: r, external: external, kind: int(seed / 2 % 4), always: seed%20 >= 18, refuseAt: 2 + r.IntN(20), pending: make(map[string]bool), devices: make(map[string]string), uses: make(map[string]int)}
}

// call notes what reached the host or the guest.
func (v *devicesRef) call(name, key string, value any) {
	c := object{"call": name, "system": "uvm-test", "step": len(v.steps)}
	c[key] = value
	v.calls = append(v.calls, c)
}

func (v *devicesRef) host(doc object) error {
	v.n++
	v.call("HcsModifyComputeSystem", "document", doc)
	if v.always {
		return errRefused
	}
	if v.nth == 0 && len(v.steps) >= v.refuseAt && !v.spared {
		v.nth = v.n
		return errRefused
	}
	return nil
}

// modify is spec §1.7.
func (v *devicesRef) modify(kind, path string, settings, guest object) error {
	doc := object{"RequestType": kind, "ResourcePath": path}
	if settings != nil {
		doc["Settings"] = settings
	}
	if guest != nil && !v.external {
		doc["GuestRequest"] = guest
	}
	if guest == nil || !v.external {
		return v.host(doc)
	}
	const vm = "00000000-0000-0000-0000-000000000000"
	message := object{"ContainerId": vm, "ActivityId": vm, "Request": guest}
	if kind == "Add" {
		if err := v.host(doc); err != nil {
			return err
		}
		v.call("bridge:ModifySettings", "document", message)
		return nil
	}
	v.call("bridge:ModifySettings", "document", message)
	return v.host(doc)
}

func request(kind, resource string, settings object) object {
	return object{"RequestType": kind, "ResourceType": resource, "Settings": settings}
}

// step notes a call of the API.
func (v *devicesRef) step(op string, args, result any, err error) {
	s := object{"op": op, "args": args, "result": result}
	if err != nil {
		s["error"] = err.Error()
	}
	v.steps = append(v.steps, s)
}

func (v *devicesRef) next() {
	v.spared = false
	kinds := [][]func(){
		{v.addDisk, v.addDisk, v.removeDisk, v.findDisk, v.addLayer, v.removeLayer},
		{v.addFolder, v.addFolder, v.removeFolder, v.pipe, v.pipe},
		{v.assign, v.assign, v.unassign},
		{v.netNS, v.endpoints, v.endpoints, v.addDisk, v.removeDisk},
	}[v.kind]
	kinds[v.rand.IntN(len(kinds))]()
}

func pick[T any](v *devicesRef, l ...T) T { return l[v.rand.IntN(len(l))] }

// addDisk is AddSCSI: a disk that cannot be attached keeps its place, and is
// there for the next who asks (B6); one that is there is given to anybody (B8).
func (v *devicesRef) addDisk() {
	name := pick(v, "a", "b", "c")
	path := `C:\lab\disks\` + name + ".vhdx"
	d := &refDisk{path: path, at: pick(v, "", "/run/scsi/"+name, "/run/scsi/"+name), readOnly: v.rand.IntN(8) == 0, n: 1}
	access := pick(v, 0, 1, 2)
	args := object{"hostPath": path, "uvmPath": d.at, "readOnly": d.readOnly, "vmAccess": access}
	if access == 2 {
		v.call("GrantVmAccess", "path", path)
	}
	mount := func(lun int, d *refDisk) object {
		return object{"Controller": 0, "HostPath": path, "LUN": lun, "UVMPath": d.at}
	}
	free := 0
	for i, have := range v.scsi {
		if have != nil && have.path == path {
			have.n++
			v.step("AddSCSI", args, mount(i, have), nil)
			return
		}
		if have != nil && i == free {
			free++
		}
	}
	v.scsi[free] = d
	settings := object{"Type": "VirtualDisk", "Path": path}
	if d.readOnly {
		settings["ReadOnly"] = true
	}
	var guest object
	if d.at != "" {
		guest = request("Add", "MappedVirtualDisk", diskRequest(free, d, d.readOnly))
	}
	if err := v.modify("Add", diskPath(free), settings, guest); err != nil {
		v.step("AddSCSI", args, nil, err)
		return
	}
	v.step("AddSCSI", args, mount(free, d), nil)
}

func diskPath(lun int) string {
	return fmt.Sprintf("VirtualMachine/Devices/Scsi/0/Attachments/%d", lun)
}

func diskRequest(lun int, d *refDisk, readOnly bool) object {
	s := object{}
	if d.at != "" {
		s["MountPath"] = d.at
	}
	if lun > 0 {
		s["Lun"] = lun
	}
	if readOnly {
		s["ReadOnly"] = true
	}
	return s
}

// removeDisk is RemoveSCSI: one that fails has counted down all the same (B9).
func (v *devicesRef) removeDisk() {
	path := `C:\lab\disks\` + pick(v, "a", "b", "c") + ".vhdx"
	args := object{"hostPath": path}
	for i, d := range v.scsi {
		if d == nil || d.path != path {
			continue
		}
		d.n--
		if d.n > 0 {
			v.step("RemoveSCSI", args, nil, nil)
			return
		}
		err := v.modify("Remove", diskPath(i), nil, request("Remove", "MappedVirtualDisk", diskRequest(i, d, false)))
		if err == nil {
			v.scsi[i] = nil
		}
		v.step("RemoveSCSI", args, nil, err)
		return
	}
	v.step("RemoveSCSI", args, nil, errors.New("not attached"))
}

func (v *devicesRef) findDisk() {
	path := `C:\lab\disks\` + pick(v, "a", "b", "c") + ".vhdx"
	for _, d := range v.scsi {
		if d != nil && d.path == path {
			v.step("GetScsiUvmPath", object{"hostPath": path}, d.at, nil)
			return
		}
	}
	v.step("GetScsiUvmPath", object{"hostPath": path}, "", errors.New("not attached"))
}

func layerRequest(kind string, n int) object {
	s := object{"MountPath": fmt.Sprintf("/run/layers/p%d", n)}
	if n > 0 {
		s["DeviceNumber"] = n
	}
	return request(kind, "VPMemDevice", s)
}

func layerPath(n int) string { return fmt.Sprintf("VirtualMachine/Devices/VirtualPMem/Devices/%d", n) }

func (v *devicesRef) addLayer() {
	path := `C:\lab\layers\` + pick(v, "a", "b") + ".vhd"
	args := object{"hostPath": path}
	if v.pending[path] {
		return // where the guest has let go it is told again, which no rule has
	}
	free := -1
	for i, l := range v.vpmem {
		if l != nil && l.path == path {
			l.n++
			v.step("AddVPMEM", args, fmt.Sprintf("/run/layers/p%d", i), nil)
			return
		}
		if l == nil && free < 0 {
			free = i
		}
	}
	settings := object{"HostPath": path, "ReadOnly": true, "ImageFormat": "Vhd1"}
	if err := v.modify("Add", layerPath(free), settings, layerRequest("Add", free)); err != nil {
		v.step("AddVPMEM", args, "", err)
		return
	}
	v.vpmem[free] = &refLayer{path: path, n: 1}
	v.step("AddVPMEM", args, fmt.Sprintf("/run/layers/p%d", free), nil)
}

func (v *devicesRef) removeLayer() {
	path := `C:\lab\layers\` + pick(v, "a", "b") + ".vhd"
	args := object{"hostPath": path}
	for i, l := range v.vpmem {
		if l == nil || l.path != path {
			continue
		}
		if l.n > 1 {
			l.n--
			v.step("RemoveVPMEM", args, nil, nil)
			return
		}
		err := v.modify("Remove", layerPath(i), nil, layerRequest("Remove", i))
		v.pending[path] = err != nil
		if err == nil {
			v.vpmem[i] = nil
		}
		v.step("RemoveVPMEM", args, nil, err)
		return
	}
	v.step("RemoveVPMEM", args, nil, errors.New("not attached"))
}

// addFolder is AddPlan9, which counts nothing (B22).
func (v *devicesRef) addFolder() {
	at, readOnly := pick(v, "/mnt/a", "/mnt/b"), v.rand.IntN(2) == 0
	args := object{"hostPath": `C:\lab\share`, "uvmPath": at, "readOnly": readOnly, "restrict": false, "allowedNames": nil}
	key := fmt.Sprint(at, readOnly)
	v.spared = v.uses[key] > 0
	if v.pending[key] {
		return // see addLayer
	}
	name, flags := fmt.Sprint(v.folders), 4
	v.folders++
	mount := object{"MountPath": at, "Port": 564, "ShareName": name}
	if readOnly {
		mount["ReadOnly"], flags = true, 5
	}
	settings := object{"Name": name, "AccessName": name, "Path": `C:\lab\share`, "Port": 564, "Flags": flags}
	err := v.modify("Add", "VirtualMachine/Devices/Plan9/Shares", settings, request("Add", "MappedDirectory", mount))
	if err == nil {
		v.shared = append(v.shared, refFolder{name, at, key})
		v.uses[key]++
	}
	v.step("AddPlan9", args, nil, err)
}

// removeFolder removes the second, the first, then each but the third.
func (v *devicesRef) removeFolder() {
	i := v.removed + 1
	if v.removed < 2 {
		i = 1 - v.removed
	}
	if i >= len(v.shared) {
		return
	}
	v.removed++
	f := v.shared[i]
	v.spared = v.uses[f.key] > 1
	err := v.modify("Remove", "VirtualMachine/Devices/Plan9/Shares", object{"Name": f.name, "AccessName": f.name, "Port": 564},
		request("Remove", "MappedDirectory", object{"MountPath": f.at, "Port": 564, "ShareName": f.name}))
	if v.pending[f.key] = err != nil; err == nil {
		v.uses[f.key]--
	}
	v.step("RemovePlan9", nil, nil, err)
}

// pipe is AddPipe and RemovePipe, which know nothing of what is shared.
func (v *devicesRef) pipe() {
	path, kind := `\\.\pipe\`+pick(v, "x", "y"), pick(v, "Add", "Remove")
	v.spared = v.uses[path] != map[string]int{"Add": 0, "Remove": 1}[kind]
	err := v.modify(kind, "VirtualMachine/Devices/MappedPipes/"+path, nil, nil)
	switch {
	case err != nil:
	case kind == "Add":
		v.uses[path]++
	case v.uses[path] > 0:
		v.uses[path]--
	}
	v.step(kind+"Pipe", object{"hostPath": path}, nil, err)
}

func (v *devicesRef) guid() string {
	v.guids++
	return fmt.Sprintf("{{GUID_%d}}", v.guids)
}

// assign is AssignDevice, which shares nothing (B26).
func (v *devicesRef) assign() {
	name, id := pick(v, "X", "Y"), v.guid()
	device := object{"Functions": []any{object{"DeviceInstancePath": `PCIP\` + name}}}
	v.spared = v.uses[name] > 0
	err := v.modify("Add", "VirtualMachine/Devices/VirtualPci/"+id, device, request("Add", "VPCIDevice", object{"VMBusGUID": id}))
	if err != nil {
		v.step("AssignDevice", object{"device": device}, nil, err)
		return
	}
	v.devices[id] = name
	v.uses[name]++
	v.step("AssignDevice", object{"device": device}, object{"ID": id}, nil)
}

func (v *devicesRef) unassign() {
	id := fmt.Sprintf("{{GUID_%d}}", 1+v.rand.IntN(max(1, v.guids)))
	name := v.devices[id]
	v.spared = v.uses[name] != 1
	err := v.modify("Remove", "VirtualMachine/Devices/VirtualPci/"+id, nil, nil)
	if err == nil && v.uses[name] > 0 {
		v.uses[name]--
		if v.uses[name] == 0 { // the ids of its users are all gone
			for k, n := range v.devices {
				if n == name {
					delete(v.devices, k)
				}
			}
		}
	}
	v.step("RemoveDevice", object{"id": id}, nil, err)
}
