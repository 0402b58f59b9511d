package main

import (
	"fmt"
	"unsafe"

	"github.com/docker/go-units"
	"golang.org/x/sys/windows"

	"github.com/byrevm/byre/internal/bootfiles"
	"github.com/byrevm/byre/internal/engine"
)

// lowMemory is how little free memory is worth a warning: a VM of the default
// size does not fit.
const lowMemory = 1 << 30

// bootFilesRemedy is said with a folder if there are none that boot.
const bootFilesRemedy = "make some: byre boot build --initrd-only --kernel-package linux-image-….deb %q, or set BYRE_BOOT_FILES to a folder that has them"

// bootable tells whether boot files that byre has made boot here.
func bootable(m *bootfiles.Manifest) error { return m.HyperV() }

// memoryStatus is MEMORYSTATUSEX.
type memoryStatus struct {
	length, load                                            uint32
	total, free, totalPage, freePage, totalVirtual, freeVir uint64
	extended                                                uint64
}

var globalMemoryStatus = windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalMemoryStatusEx")

// hostChecks looks at what the engine does not look at.
func hostChecks() []engine.Check {
	c := engine.Check{Name: "memory"}
	s := memoryStatus{length: uint32(unsafe.Sizeof(memoryStatus{}))}
	if r, _, err := globalMemoryStatus.Call(uintptr(unsafe.Pointer(&s))); r == 0 {
		c.Detail = fmt.Sprintf("asking for the free memory: %v", err)
		return []engine.Check{c}
	}
	c.OK = s.free >= lowMemory
	c.Detail = fmt.Sprintf("%s of %s free", units.BytesSize(float64(s.free)), units.BytesSize(float64(s.total)))
	return []engine.Check{c}
}
