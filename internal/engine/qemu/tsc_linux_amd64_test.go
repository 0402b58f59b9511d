package qemu

import (
	"os"
	"testing"
	"time"
)

func TestTSC(t *testing.T) {
	khz := tscKHz()
	if khz == 0 {
		cpu, err := os.ReadFile("/proc/cpuinfo")
		if err != nil || hasFlag(cpu, "constant_tsc") && hasFlag(cpu, "nonstop_tsc") {
			t.Errorf("no rate of a counter that is steady: %v", err)
		}
		return
	}
	// Over a longer time the counter is where the rate says.
	a := sampleTSC()
	time.Sleep(100 * time.Millisecond)
	b := sampleTSC()
	got, want := float64(b.tsc-a.tsc), float64(b.at-a.at)*float64(khz)/1e6
	if d := got/want - 1; d < -0.001 || d > 0.001 {
		t.Errorf("%d kHz is wrong by %.3f %%", khz, 100*d)
	}
}
