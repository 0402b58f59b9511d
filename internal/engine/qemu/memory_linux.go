package qemu

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// hostMemory reads /proc/meminfo: all memory of the host and what a program
// could get of it, in MiB.
func hostMemory() (total, available int64, err error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kib int64
		name, rest, _ := strings.Cut(s.Text(), ":")
		if _, err := fmt.Sscan(strings.TrimSuffix(rest, "kB"), &kib); err != nil {
			continue
		}
		switch name {
		case "MemTotal":
			total = kib >> 10
		case "MemAvailable":
			available = kib >> 10
		}
	}
	if total == 0 {
		return 0, 0, fmt.Errorf("/proc/meminfo is not understood")
	}
	return total, available, nil
}

// checkMemory refuses a system that the host can never hold, and one that
// wants its memory at once where it is not free.
func checkMemory(m *machine) error {
	total, available, err := hostMemory()
	if err != nil {
		return fmt.Errorf("reading the memory of the host: %w", err)
	}
	if m.memory.sizeMB > total {
		return fmt.Errorf("memory of %d MB is more than the host's %d MB", m.memory.sizeMB, total)
	}
	if m.memory.prealloc && m.memory.sizeMB > available {
		return fmt.Errorf("memory of %d MB, which must not be overcommitted, is more than the %d MB that are free", m.memory.sizeMB, available)
	}
	return nil
}
