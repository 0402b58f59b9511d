package qemu

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// A stat is what /proc tells of a process.
type stat struct {
	state        byte
	user, system uint64 // clock ticks
	start        uint64 // clock ticks after boot
	rss          int64  // pages
}

const ticksPerSecond = 100 // USER_HZ, the same on every architecture of Linux that Go has

// readStat reads /proc/PID/stat (proc(5)).
func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The second field, the name, is in parentheses and may hold anything.
	_, rest, ok := bytes.Cut(b[max(0, bytes.LastIndexByte(b, ')')):], []byte(") "))
	f := bytes.Fields(rest)
	if !ok || len(f) < 22 {
		return stat{}, fmt.Errorf("/proc/%d/stat is not understood", pid)
	}
	number := func(field int) uint64 { // as numbered in the manual page, from 1
		n, _ := strconv.ParseUint(string(f[field-3]), 10, 64)
		return n
	}
	return stat{state: f[0][0], user: number(14), system: number(15), start: number(22), rss: int64(number(24))}, nil
}

// alive reports whether that very process still runs.
func (p proc) alive() bool {
	if p.PID == 0 {
		return false
	}
	s, err := readStat(p.PID)
	return err == nil && s.start == p.Start && s.state != 'Z' && s.state != 'X'
}
