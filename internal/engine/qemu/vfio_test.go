//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// A pciHost is a made-up /sys and /dev. What is written to the files of
// drivers changes it as the kernel would.
type pciHost struct {
	t    *testing.T
	root string
	log  []string // what was written
	fail string   // a write that begins so fails

	used map[string]bool // functions that a QEMU has open
	late int             // how often their groups are busy after the last one is closed
}

func newPCIHost(t *testing.T) *pciHost {
	t.Helper()
	h := &pciHost{t: t, root: t.TempDir()}
	for _, d := range []string{vfioDriver, "nic", "pcieport"} {
		h.mkdir("sys/bus/pci/drivers", d)
	}
	h.mkdir("dev/vfio")
	return h
}

func (h *pciHost) vfio() vfioHost { return vfioHost{root: h.root, write: h.write} }

func (h *pciHost) path(names ...string) string {
	return filepath.Join(append([]string{h.root}, names...)...)
}

func (h *pciHost) mkdir(names ...string) {
	h.t.Helper()
	if err := os.MkdirAll(h.path(names...), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

func (h *pciHost) text(path, text string) {
	h.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// add adds a device; group -1 is none, driver "" none.
func (h *pciHost) add(addr string, group int, driver, class string) {
	h.t.Helper()
	h.mkdir("sys/bus/pci/devices", addr)
	dir := h.path("sys/bus/pci/devices", addr)
	h.text(filepath.Join(dir, "class"), class+"\n")
	h.text(filepath.Join(dir, "driver_override"), "(null)\n")
	if driver != "" {
		h.mkdir("sys/bus/pci/drivers", driver)
		h.link("../../drivers/"+driver, filepath.Join(dir, "driver"))
	}
	if group >= 0 {
		n := fmt.Sprint(group)
		h.mkdir("sys/kernel/iommu_groups", n, "devices", addr)
		h.link("../../../../kernel/iommu_groups/"+n, filepath.Join(dir, "iommu_group"))
		h.text(h.path("dev/vfio", n), "")
	}
}

func (h *pciHost) link(to, at string) {
	h.t.Helper()
	if err := os.Symlink(to, at); err != nil {
		h.t.Fatal(err)
	}
}

func (h *pciHost) write(path, text string) error {
	rel := strings.TrimPrefix(path, h.path("sys/bus/pci")+"/")
	line := rel + " " + strings.TrimSpace(text)
	if h.fail != "" && strings.HasPrefix(line, h.fail) {
		return unix.EIO
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return err
	}
	h.log = append(h.log, line)
	parts := strings.Split(rel, "/")
	if parts[0] == "devices" {
		return os.WriteFile(path, []byte(text), 0o644)
	}
	driver, link := parts[1], h.path("sys/bus/pci/devices", text, "driver")
	switch now, _ := os.Readlink(link); {
	case parts[2] == "unbind" && filepath.Base(now) == driver:
		delete(h.used, text) // the kernel waits for that
		return os.Remove(link)
	case parts[2] == "bind" && now == "":
		if driver != vfioDriver && h.busy(text) {
			return unix.EBUSY
		}
		over, _ := os.ReadFile(h.path("sys/bus/pci/devices", text, "driver_override"))
		if o := strings.TrimSpace(string(over)); o == driver || (o == "" || o == "(null)") && driver != vfioDriver {
			return os.Symlink("../../drivers/"+driver, link)
		}
	}
	return unix.ENODEV
}

// busy tells whether the group of a function is used through VFIO: then the
// kernel does not let drivers of its own into it. QEMU closes a group after the
// last of its functions.
func (h *pciHost) busy(addr string) bool {
	group, err := h.vfio().group(addr)
	if err != nil {
		h.t.Fatal(err)
	}
	for a := range h.used {
		if g, err := h.vfio().group(a); err != nil || g == group {
			return true
		}
	}
	if h.late > 0 {
		h.late--
		return true
	}
	return false
}

func (h *pciHost) wantDriver(addr, want string) {
	h.t.Helper()
	if got, err := h.vfio().boundTo(addr); got != want || err != nil {
		h.t.Errorf("%s has driver %q, %v, want %q", addr, got, err, want)
	}
}

func TestResolve(t *testing.T) {
	h := newPCIHost(t)
	h.add("0000:03:00.0", 1, "nic", "0x020000")
	h.add("0000:03:10.1", 2, "", "0x020000")
	h.link("../0000:03:10.1", h.path("sys/bus/pci/devices/0000:03:00.0/virtfn1"))
	for _, c := range []struct {
		path string
		n    uint16
		want string
		err  error
	}{
		{"0000:03:00.0", 0, "0000:03:00.0", nil},
		{"03:00.0", 0, "0000:03:00.0", nil},
		{"0000:03:10.1", 0, "0000:03:10.1", nil},
		{"0000:03:00.0", 2, "0000:03:10.1", nil},
		{"0000:03:00.0", 1, "", hcs.ErrNotFound},
		{"0000:04:00.0", 0, "", hcs.ErrNotFound},
		{`PCIP\VEN_8086&DEV_1572`, 0, "", hcs.ErrNotSupported},
		{"../0000:03:00.0", 0, "", hcs.ErrNotSupported},
		{"", 0, "", hcs.ErrNotSupported},
	} {
		got, err := h.vfio().resolve(hcsschema.VirtualPciFunction{DeviceInstancePath: c.path, VirtualFunction: c.n})
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s, %d: got %q, %v, want %q, %v", c.path, c.n, got, err, c.want, c.err)
		}
	}
}

func TestGroup(t *testing.T) {
	h := newPCIHost(t)
	h.add("0000:00:01.0", 7, "pcieport", "0x060400")
	h.add("0000:01:00.0", 7, "nic", "0x020000")
	h.add("0000:01:00.1", 7, "", "0x020000")
	h.add("0000:01:00.2", 7, vfioDriver, "0x020000")
	h.add("0000:01:00.3", 7, "pci-stub", "0x020000")
	h.add("0000:02:00.0", -1, "nic", "0x020000")
	v := h.vfio()
	if n, err := v.group("0000:01:00.1"); n != 7 || err != nil {
		t.Errorf("group %d, %v", n, err)
	}
	if _, err := v.group("0000:02:00.0"); !errors.Is(err, hcs.ErrNotSupported) {
		t.Error(err)
	}
	for ours, want := range map[string]string{
		"0000:01:00.0":              "",                                                 // all others are harmless
		"0000:01:00.1":              "0000:01:00.0, which this host uses by driver nic", // its neighbour is not
		"0000:01:00.1 0000:01:00.0": "",                                                 // together they are
		"0000:00:01.0 0000:01:00.0": "which is a bridge",
	} {
		err := v.check(7, strings.Fields(ours))
		if want == "" && err != nil || want != "" && (!errors.Is(err, hcs.ErrNotSupported) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", ours, err, want)
		}
	}
	if len(h.log) != 0 {
		t.Errorf("written: %q", h.log)
	}
}

func TestTakeAndGiveBack(t *testing.T) {
	h := newPCIHost(t)
	v := h.vfio()
	h.add("0000:01:00.0", 1, "nic", "0x020000")
	h.add("0000:01:00.1", 1, "", "0x020000")
	for addr, driver := range map[string]string{"0000:01:00.0": "nic", "0000:01:00.1": ""} {
		b := borrowed{addr, driver}
		if err := v.take(b); err != nil {
			t.Fatal(err)
		}
		h.wantDriver(addr, vfioDriver)
		for range 2 { // it may be called again
			if err := v.giveBack(b); err != nil {
				t.Error(err)
			}
			h.wantDriver(addr, driver)
		}
	}
	b := borrowed{"0000:01:00.0", "nic"}
	for _, fail := range []string{"devices/0000:01:00.0/driver_override", "drivers/nic/unbind", "drivers/vfio-pci/bind"} {
		h.fail = fail
		if err := v.take(b); !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", fail, err)
		}
		h.fail = ""
		if err := v.giveBack(b); err != nil {
			t.Error(err)
		}
		h.wantDriver(b.Address, "nic")
	}
	if err := v.giveBack(borrowed{"0000:09:00.0", "nic"}); err != nil { // pulled out meanwhile
		t.Error(err)
	}
	if err := os.Remove(h.path("sys/bus/pci/drivers", vfioDriver)); err != nil {
		t.Fatal(err)
	}
	if err := v.take(b); !errors.Is(err, hcs.ErrNotSupported) {
		t.Error(err)
	}
	h.wantDriver(b.Address, "nic")
}

// TestRecover gives back what a dead owner had, unless somebody has it.
func TestRecover(t *testing.T) {
	h := newPCIHost(t)
	v := h.vfio()
	h.add("0000:01:00.0", 1, "nic", "0x020000")
	h.add("0000:01:00.1", 1, "nic", "0x020000")
	b, other := borrowed{"0000:01:00.0", "nic"}, borrowed{"0000:01:00.1", "nic"}
	if err := errors.Join(v.take(b), v.take(other)); err != nil {
		t.Fatal(err)
	}
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	if uid == 0 {
		if err := os.Chown(v.node(1), 4321, 4321); err != nil {
			t.Fatal(err)
		}
	}
	h.used = map[string]bool{"0000:01:00.0": true, "0000:01:00.1": true} // by a QEMU that is killed
	h.late = 3
	c := &claim{dir: t.TempDir(), devices: v}
	if err := c.note(func(r *record) {
		r.Groups = []lentGroup{{Group: 1, Node: true, UID: uid, GID: gid, Devices: []borrowed{b, other}}}
	}); err != nil {
		t.Fatal(err)
	}
	rec, err := readRecord(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := v.lockGroup(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.lockGroup(1); !errors.Is(err, hcs.ErrAlreadyExists) {
		t.Errorf("locked twice: %v", err)
	}
	if err := v.recover(rec.Groups[0]); err != nil {
		t.Error(err)
	}
	h.wantDriver(b.Address, vfioDriver)
	lock.Close()
	dead := &claim{dir: c.dir, rec: rec, devices: v}
	if dead.lock, err = tryLock(filepath.Join(c.dir, lockFile), os.O_CREATE); err != nil {
		t.Fatal(err)
	}
	h.fail = "drivers/nic/bind 0000:01:00.0"
	if err := dead.release(); !errors.Is(err, unix.EIO) || errors.Is(err, unix.EBUSY) {
		t.Error(err)
	}
	h.wantDriver(other.Address, "nic")
	h.fail = ""
	if err := dead.release(); err != nil {
		t.Error(err)
	}
	h.wantDriver(b.Address, "nic")
	h.wantDriver(other.Address, "nic")
	var st unix.Stat_t
	if err := unix.Stat(v.node(1), &st); err != nil || st.Uid != uid || st.Gid != gid {
		t.Errorf("the group's file is of %d:%d, %v", st.Uid, st.Gid, err)
	}
}

// TestAssign gives devices to a QEMU, which cannot use those of a made-up
// host: all goes back.
func TestAssign(t *testing.T) {
	checkResidue(t, testEngine(t))
	s := running(t)
	h := newPCIHost(t)
	s.pci.host, s.claim.devices = h.vfio(), h.vfio()
	h.add("0000:01:00.0", 1, "nic", "0x020000")
	h.add("0000:01:00.1", 1, "nic", "0x020000")
	h.add("0000:02:00.0", 2, vfioDriver, "0x010802")
	h.add("0000:03:00.0", -1, "nic", "0x020000")
	// Each virtual function is a group: of a device of the host, and of one
	// that somebody else has.
	for slot, driver := range map[int]string{4: "nic", 5: vfioDriver} {
		of, vf := fmt.Sprintf("0000:%02d:00.0", slot), fmt.Sprintf("0000:%02d:00.1", slot)
		h.add(of, 2*slot, driver, "0x020000")
		h.add(vf, 2*slot+1, "", "0x020000")
		h.text(h.path("sys/bus/pci/devices", of, "sriov_numvfs"), "1\n")
		h.link("../"+vf, h.path("sys/bus/pci/devices", of, "virtfn0"))
		h.link("../"+of, h.path("sys/bus/pci/devices", vf, "physfn"))
	}
	h.add("0000:06:00.0", 12, vfioDriver, "0x020000")
	h.text(h.path("sys/bus/pci/devices/0000:06:00.0/sriov_numvfs"), "0\n")
	path := func(slot int) string { return hcs.PCIPath(fmt.Sprintf("99999999-0000-4000-8000-%012d", slot)) }
	assign := func(slot int, addrs ...string) error {
		var d hcsschema.VirtualPciDevice
		for _, a := range addrs {
			d.Functions = append(d.Functions, hcsschema.VirtualPciFunction{DeviceInstancePath: a})
		}
		return modify(t.Context(), s, hcsschema.Add, path(slot), d)
	}
	clean := func() {
		t.Helper()
		h.wantDriver("0000:01:00.0", "nic")
		h.wantDriver("0000:01:00.1", "nic")
		h.wantDriver("0000:02:00.0", vfioDriver)
		rec, err := readRecord(s.claim.dir)
		if err != nil || len(rec.Groups) != 0 || len(s.pci.groups) != 0 || slices.ContainsFunc(s.pci.slots[:], func(p *pciDevice) bool { return p != nil }) {
			t.Errorf("left: %+v, %v, %v, %v", rec.Groups, s.pci.groups, s.pci.slots, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(h.vfio().node(1), &st); err != nil || int(st.Uid) != os.Getuid() {
			t.Errorf("the group's file is of %d, %v", st.Uid, err)
		}
	}
	for _, c := range []struct {
		name  string
		slot  int
		addrs []string
		want  error
	}{
		{"no functions", 0, nil, hcs.ErrNotSupported},
		{"nine functions", 0, make([]string, 9), hcs.ErrNotSupported},
		{"no such device", 0, []string{"0000:0f:00.0"}, hcs.ErrNotFound},
		{"twice", 0, []string{"0000:01:00.0", "01:00.0"}, hcs.ErrAlreadyExists},
		{"no IOMMU", 0, []string{"0000:03:00.0"}, hcs.ErrNotSupported},
		{"part of a group", 0, []string{"0000:01:00.0"}, hcs.ErrNotSupported},
		{"part of one of two groups", 0, []string{"0000:02:00.0", "0000:01:00.1"}, hcs.ErrNotSupported},
		{"has virtual functions", 0, []string{"0000:04:00.0"}, hcs.ErrNotSupported},
		{"virtual function of what is given away", 0, []string{"0000:05:00.1"}, hcs.ErrNotSupported},
		{"no such slot", 4, []string{"0000:02:00.0"}, hcs.ErrNotFound},
	} {
		if err := assign(c.slot, c.addrs...); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		clean()
	}
	if len(h.log) != 0 {
		t.Errorf("written before the checks: %q", h.log)
	}
	// Everything is taken, and QEMU finds no device.
	if err := assign(0, "0000:01:00.0", "0000:01:00.1"); err == nil || !strings.Contains(err.Error(), "PCI device") {
		t.Error(err)
	}
	if !slices.Contains(h.log, "drivers/vfio-pci/bind 0000:01:00.0") || !slices.Contains(h.log, "drivers/vfio-pci/bind 0000:01:00.1") {
		t.Errorf("written: %q", h.log)
	}
	clean()
	// A virtual function is taken and its device is not; nor is a device that
	// could have some refused.
	for _, c := range []hcsschema.VirtualPciFunction{{DeviceInstancePath: "0000:04:00.0", VirtualFunction: 1}, {DeviceInstancePath: "0000:06:00.0"}} {
		d := hcsschema.VirtualPciDevice{Functions: []hcsschema.VirtualPciFunction{c}}
		if err := modify(t.Context(), s, hcsschema.Add, path(0), d); err == nil || errors.Is(err, hcs.ErrNotSupported) || !strings.Contains(err.Error(), "PCI device") {
			t.Errorf("%v: %v", c, err)
		}
	}
	if !slices.Contains(h.log, "drivers/vfio-pci/bind 0000:04:00.1") {
		t.Errorf("written: %q", h.log)
	}
	h.wantDriver("0000:04:00.0", "nic")
	h.wantDriver("0000:04:00.1", "")
	clean()
	h.fail = "drivers/vfio-pci/bind 0000:01:00.1" // the first has been taken by then
	if err := assign(1, "0000:01:00.0", "0000:01:00.1"); !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
	h.fail = ""
	clean()
	lock, err := h.vfio().lockGroup(2) // another system has it
	if err != nil {
		t.Fatal(err)
	}
	if err := assign(2, "0000:02:00.0"); !errors.Is(err, hcs.ErrAlreadyExists) {
		t.Error(err)
	}
	lock.Close()
	clean()
	if err := modify(t.Context(), s, hcsschema.Remove, path(0), nil); !errors.Is(err, hcs.ErrNotFound) {
		t.Error(err)
	}
}

func TestPCIPorts(t *testing.T) {
	const (
		id  = "99999999-0000-4000-8000-000000000001"
		off = ` panic=-1 pci=off nr_cpus=2 brd.rd_nr=0 pmtmr=0 -- x`
		on  = ` panic=-1 nr_cpus=2 brd.rd_nr=0 pmtmr=0 -- x`
	)
	boot := func(line string) *hcsschema.VirtualMachine {
		return &hcsschema.VirtualMachine{Chipset: &hcsschema.Chipset{LinuxKernelDirect: &hcsschema.LinuxKernelDirect{KernelFilePath: "/k", KernelCmdLine: line}}}
	}
	device := boot(off)
	device.Devices = &hcsschema.Devices{VirtualPci: map[string]hcsschema.VirtualPciDevice{id: {}}}
	for name, c := range map[string]struct {
		vm   *hcsschema.VirtualMachine
		want bool
	}{"off": {boot(off), false}, "on": {boot(on), true}, "user's": {boot("pci=off" + on), true}, "device": {device, true}, "no kernel": {&hcsschema.VirtualMachine{}, true}} {
		m := &machine{}
		if err := errors.Join(m.setBoot(c.vm), m.setPCI(c.vm)); err != nil {
			t.Fatal(err)
		}
		if m.pciPorts != c.want || (len(pciPorts(m)) > 0) != c.want || (len(m.portWords()) > 0) != c.want {
			t.Errorf("%s: %v", name, m.pciPorts)
		}
		if err := m.hasPCISlot(id); (err == nil) != c.want || !c.want && !errors.Is(err, hcs.ErrNotSupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	device.Devices.VirtualPci = map[string]hcsschema.VirtualPciDevice{"x": {}}
	if err := new(machine).setPCI(device); err == nil {
		t.Error("a device without a slot was accepted")
	}
}
