package qemu

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// maxPMemSpace bounds the guest physical addresses that are set aside for
// persistent memory: the processor that is emulated has 40 bits of them.
const maxPMemSpace = 512 << 30

// inherited are the descriptors, and the paths that lead to them, that QEMU
// finds when it starts.
type inherited struct {
	qmp, vsock, console int
	shares              int // 0 without the device
	kernel, initrd      string
	firmware            string
}

// argv is the command line of QEMU for m, without the program. Devices that m
// has attached are not on it: they are plugged in before the guest runs.
//
// The socket device has an interrupt for each of its rings. With one less they
// share one, and the guest looks after what it has sent with every answer.
func argv(m *machine, accel string, in inherited) []string {
	a := []string{
		"-name", "guest=" + strings.ReplaceAll(m.id, ",", ",,"),
		"-nodefaults", "-no-user-config", "-display", "none", "-S",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-machine", machineArgument(m),
		"-bios", in.firmware,
		"-smp", strconv.Itoa(m.processors),
		"-m", m.memoryArgument(),
		"-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%dM,share=on,prealloc=%s", m.memory.sizeMB, onOff(m.memory.prealloc)),
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", in.qmp),
		"-mon", "chardev=qmp,mode=control",
		"-chardev", fmt.Sprintf("socket,id=com1,fd=%d", in.console),
		"-device", "isa-serial,chardev=com1",
		"-chardev", fmt.Sprintf("socket,id=vsock,fd=%d", in.vsock),
		"-device", "vhost-user-vsock-pci,chardev=vsock,bus=pcie.0,addr=0x2,disable-legacy=on,vectors=4",
	}
	if in.shares != 0 {
		// The second ring is for requests, the first for what a guest forgets.
		a = append(a, "-chardev", fmt.Sprintf("socket,id=shares,fd=%d", in.shares),
			"-device", "vhost-user-fs-pci,chardev=shares,tag=byre,bus=pcie.0,addr=0x6,queue-size=1024,num-request-queues=1,vectors=3")
	}
	a = append(a, accelArgs(accel)...)
	a = append(a, options(m)...)
	if !m.resets {
		a = append(a, "-no-reboot")
	}
	if len(m.controllers) > 0 {
		a = append(a, "-device", "virtio-scsi-pci,id=scsi,bus=pcie.0,addr=0x3,disable-legacy=on")
	}
	for b := range place.VPMemBridges(m.pmemCount) {
		a = append(a, bridge("pmem", b, place.VPMem(b*place.SlotsPerBridge))...)
	}
	for b := range place.NetworkBridges {
		a = append(a, bridge("nic", b, place.Network(b*place.SlotsPerBridge))...)
	}
	a = append(a, pciPorts(m)...)
	if m.boot != nil {
		a = append(a, "-kernel", in.kernel, "-append", m.boot.cmdline)
		if in.initrd != "" {
			a = append(a, "-initrd", in.initrd)
		}
	}
	return a
}

// machineArgument is the value of QEMU's -machine.
func machineArgument(m *machine) string {
	s := fmt.Sprintf("q35,memory-backend=ram,dump-guest-core=off,graphics=%s,sata=off,smbus=off,smm=off,usb=off,vmport=off", onOff(m.screen != nil))
	if m.memory.lowGapMB > 0 {
		s += fmt.Sprintf(",max-ram-below-4g=%dM", fourGB-m.memory.lowGapMB)
	}
	return s
}

// options are the arguments for what not every machine has.
func options(m *machine) (a []string) {
	if m.memory.highGapMB > 0 {
		a = append(a, "-global", fmt.Sprintf("q35-pcihost.pci-hole64-size=%dM", m.memory.highGapMB))
	}
	if m.memory.discard {
		a = append(a, "-device", "virtio-balloon-pci,id=balloon,bus=pcie.0,addr=0x4,disable-legacy=on,free-page-reporting=on")
	}
	if m.limitsDisks() {
		a = append(a, "-object", fmt.Sprintf(`{"qom-type":"throttle-group","id":%q,"limits":{"iops-total":%d,"bps-total":%d}}`,
			diskGroup, m.qos.IopsMaximum, m.qos.BandwidthMaximum))
	}
	if s := m.screen; s != nil {
		// It listens nowhere: clients are handed over one by one.
		a = append(a, "-vnc", "none", "-device", fmt.Sprintf("bochs-display,id=screen,bus=pcie.0,addr=0x5,xres=%d,yres=%d", s.HorizontalResolution, s.VerticalResolution))
	}
	return a
}

// diskGroup is the object in QEMU that limits all disks together.
const diskGroup = "disks"

func (m *machine) limitsDisks() bool { return m.qos != hcsschema.StorageQoS{} }

// pmemSpace is the room for all devices of m, in whole GiB.
func pmemSpace(m *machine) int64 {
	const gib = 1 << 30
	space := int64(maxPMemSpace)
	if m.pmemMax < maxPMemSpace/int64(m.pmemCount) {
		space = m.pmemMax * int64(m.pmemCount)
	}
	return max(gib, (space+gib-1)/gib*gib)
}

// bridge is a PCI bridge on the root bus, on which devices can be plugged: it
// costs a fraction of the time of a PCI Express port, or of a bridge with a
// hot-plug controller of its own, to boot. The firmware sets up nothing and a
// kernel gives an empty bridge no addresses, so each has a device that does
// nothing but want as much as a full one.
func bridge(kind string, n int, first place.PCI) []string {
	id := bridgeID(kind, n)
	return []string{
		"-device", fmt.Sprintf("pci-bridge,id=%s,bus=pcie.0,addr=%#x,chassis_nr=%d,shpc=off", id, first.Port(), first.Port()),
		"-device", fmt.Sprintf("pci-testdev,bus=%s,addr=0x0,membar=512K", id),
	}
}

func bridgeID(kind string, n int) string { return fmt.Sprintf("%sbridge%d", kind, n) }

// accelArgs names the accelerator and a processor for it. Without KVM it is
// the oldest that programs of today's distributions run on (x86-64-v2): every
// feature more is emulated in software and slows the boot.
func accelArgs(accel string) []string {
	if accel == AccelKVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "qemu64,+cx16,+lahf-lm,+popcnt,+sse3,+ssse3,+sse4.1,+sse4.2,+rdrand"}
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
