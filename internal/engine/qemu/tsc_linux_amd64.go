package qemu

import (
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// readTSC reads the processor's time-stamp counter.
func readTSC() uint64

// tscKHz is the rate of this host's time-stamp counter, 0 if it has no steady
// one. An emulated machine has the same counter: a guest that is told the
// rate need not measure it against emulated timers, which a busy host delays
// until its clock runs at a wrong speed.
var tscKHz = sync.OnceValue(func() int {
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !hasFlag(cpu, "constant_tsc") || !hasFlag(cpu, "nonstop_tsc") {
		return 0
	}
	const span = 10 * time.Millisecond // for 1 in 100,000
	a := sampleTSC()
	time.Sleep(span)
	b := sampleTSC()
	if b.at <= a.at || b.tsc <= a.tsc {
		return 0
	}
	return int(math.Round(float64(b.tsc-a.tsc) / float64(b.at-a.at) * 1e6))
})

type tscSample struct {
	at  int64 // ns
	tsc uint64
}

// sampleTSC reads the counter and a clock at the same time, as good as can be.
func sampleTSC() (best tscSample) {
	width := int64(math.MaxInt64)
	for range 16 {
		before := rawClock()
		tsc := readTSC()
		after := rawClock()
		if after-before < width {
			width, best = after-before, tscSample{before + (after-before)/2, tsc}
		}
	}
	return best
}

func rawClock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}
