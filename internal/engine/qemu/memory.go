package qemu

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// memoryOptions are the memory of a machine and the addresses around it, in
// MiB.
type memoryOptions struct {
	sizeMB   int64
	prealloc bool // all of it is taken from the host at the start
	discard  bool // the guest says what it does not use, and the host takes it
	// lowGapMB, unless 0, is the least room for devices below 4 GiB, and
	// highGapMB above all memory; there it begins at highBaseMB or after.
	lowGapMB, highBaseMB, highGapMB int64
}

const (
	// fourGB is the end of the addresses of 32 bits.
	fourGB = 4096
	// lowMemoryMB is the most memory that is all below 4 GiB on this machine,
	// whatever is asked for; from more on, only splitMemoryMB of it are.
	lowMemoryMB   = 2816
	splitMemoryMB = 2048
	// leastLowMB is what must be below 4 GiB, for firmware and kernel.
	leastLowMB = 256
	// defaultHighGapMB is the room that QEMU keeps for devices above memory.
	defaultHighGapMB = 32 << 10
	// reachMB is where room for devices must end: from there to 1 TiB AMD's
	// processors have something else, and QEMU moves all memory behind that.
	reachMB = 1012 << 10
	// addressMB is what the emulated processor can address: 40 bits.
	addressMB = 1 << 20
)

func (m *machine) setMemory(vm *hcsschema.VirtualMachine) error {
	if vm.ComputeTopology == nil || vm.ComputeTopology.Memory == nil {
		return nil
	}
	mem := vm.ComputeTopology.Memory
	if mem.SizeInMB < 0 {
		return fmt.Errorf("memory of %d MB is negative", mem.SizeInMB)
	}
	if mem.SizeInMB > 0 {
		m.memory.sizeMB = int64(mem.SizeInMB)
	}
	m.memory.prealloc = !mem.AllowOvercommit
	m.memory.discard = mem.EnableColdDiscardHint
	for name, set := range map[string]bool{
		"EnableDeferredCommit": mem.EnableDeferredCommit, "EnableColdDiscardHint": mem.EnableColdDiscardHint,
	} {
		if set && m.memory.prealloc {
			return fmt.Errorf("%w: member VirtualMachine.ComputeTopology.Memory.%s without AllowOvercommit", hcs.ErrNotSupported, name)
		}
	}
	for _, x := range []struct {
		name  string
		value uint64
		to    *int64
	}{
		{"LowMmioGapInMB", mem.LowMmioGapInMB, &m.memory.lowGapMB},
		{"HighMmioBaseInMB", mem.HighMmioBaseInMB, &m.memory.highBaseMB},
		{"HighMmioGapInMB", mem.HighMmioGapInMB, &m.memory.highGapMB},
	} {
		if x.value > addressMB {
			return fmt.Errorf("%s is %d, the machine has addresses for %d", x.name, x.value, int64(addressMB))
		}
		*x.to = int64(x.value)
	}
	return m.checkGaps()
}

// checkGaps refuses what has no room. Above 4 GiB there are, one after the
// other: memory, persistent memory, devices.
func (m *machine) checkGaps() error {
	o := &m.memory
	if o.lowGapMB > fourGB-leastLowMB {
		return fmt.Errorf("LowMmioGapInMB is %d, at most %d are possible", o.lowGapMB, fourGB-leastLowMB)
	}
	if o.highBaseMB%1024 != 0 {
		return errors.New("HighMmioBaseInMB must be a multiple of 1024")
	}
	if o.highBaseMB > 0 && o.highBaseMB < m.devicesFromMB() {
		return fmt.Errorf("HighMmioBaseInMB is %d, but memory ends at %d", o.highBaseMB, m.devicesFromMB())
	}
	if end := max(o.highBaseMB, m.devicesFromMB()) + cmp.Or(o.highGapMB, defaultHighGapMB); o.highBaseMB+o.highGapMB > 0 && end > reachMB {
		return fmt.Errorf("HighMmioBaseInMB and HighMmioGapInMB: %d are the last address, at most %d are possible", end, int64(reachMB))
	}
	return nil
}

// lowMB is the memory below 4 GiB.
func (o *memoryOptions) lowMB() int64 {
	low := int64(lowMemoryMB)
	if o.sizeMB >= low {
		low = splitMemoryMB
	}
	if o.lowGapMB > 0 {
		low = min(low, fourGB-o.lowGapMB)
	}
	return min(low, o.sizeMB)
}

// allLow reports whether all memory is below 4 GiB.
func (o *memoryOptions) allLow() bool { return o.lowMB() == o.sizeMB }

// pluggedFromMB is where QEMU puts memory that is plugged in: persistent
// memory.
func (o *memoryOptions) pluggedFromMB() int64 { return roundGB(fourGB + o.sizeMB - o.lowMB()) }

// devicesFromMB is where devices above 4 GiB begin unless it is moved.
func (m *machine) devicesFromMB() int64 {
	if m.pmemCount == 0 {
		return m.memory.pluggedFromMB()
	}
	return roundGB(m.memory.pluggedFromMB() + pmemSpace(m)/mib + alignMB*int64(m.pmemCount))
}

// alignMB is what QEMU adds to the room for plugged memory for each slot.
const alignMB = 1024

func roundGB(mb int64) int64 { return (mb + 1023) / 1024 * 1024 }

// argument is the value of QEMU's -m.
func (m *machine) memoryArgument() string {
	s := fmt.Sprintf("size=%dM", m.memory.sizeMB)
	slots, room := int64(m.pmemCount), int64(0)
	if slots > 0 {
		room = pmemSpace(m) / mib
	}
	if more := m.memory.highBaseMB - m.devicesFromMB(); m.memory.highBaseMB > 0 && more > 0 {
		if slots == 0 {
			slots, more = 1, more-alignMB
		}
		room += more
	}
	if room > 0 {
		s += fmt.Sprintf(",slots=%d,maxmem=%dM", slots, m.memory.sizeMB+room)
	}
	return s
}
