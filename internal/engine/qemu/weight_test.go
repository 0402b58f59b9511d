//go:build linux

package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/byrevm/byre/hcs"
)

// Two systems that want the same processor share it as their weights say. As
// TestCgroupOnHost, it runs on the host's version of cgroups and, by test/, on
// a guest's.
func TestCgroupWeight(t *testing.T) {
	h := hostCgroups(t)
	var pids []int
	for _, weight := range []int64{400, 100} {
		g, dirs := h.plan(fmt.Sprintf("weight-%d-%d", os.Getpid(), weight))
		t.Cleanup(func() {
			for _, d := range dirs {
				if err := removeCgroup(d); err != nil {
					t.Error(err)
				}
			}
		})
		if err := g.make(&machine{processors: 1, shares: shares{weight: weight}}); errors.Is(err, hcs.ErrNotSupported) {
			t.Logf("weights are refused: %v", err)
			return
		} else if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, spinOn(t, 0, g))
	}
	ticks := func() (n [2]float64) {
		for i, pid := range pids {
			st, err := readStat(pid)
			if err != nil {
				t.Fatal(err)
			}
			n[i] = float64(st.user + st.system)
		}
		return n
	}
	before := ticks()
	// A busy host gives both little: what they get together is waited for.
	const enough = 2 * ticksPerSecond
	for tick := time.NewTicker(50 * time.Millisecond); ; <-tick.C {
		now := ticks()
		heavy, light := now[0]-before[0], now[1]-before[1]
		if heavy+light < enough {
			continue
		}
		t.Logf("of %.0f ticks weight 400 had %.0f and weight 100 had %.0f", heavy+light, heavy, light)
		if heavy < 2.5*light || light == 0 || heavy > 6*light {
			t.Errorf("%.0f against %.0f ticks, want four times as many", heavy, light)
		}
		return
	}
}

// spinOn starts a process that needs one processor, in a cgroup.
func spinOn(t *testing.T, cpu int, g *cgroups) (pid int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "spin")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the cgroup goes
		cmd.Process.Kill()
		cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, len("spinning"))); err != nil {
		t.Fatal(err)
	}
	pid = cmd.Process.Pid
	if err := g.add(pid); err != nil {
		t.Fatal(err)
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("threads %q, %v", tasks, err)
	}
	var set unix.CPUSet
	set.Set(cpu)
	for _, task := range tasks {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err == nil {
			err = unix.SchedSetaffinity(tid, &set)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
	}
	return pid
}
