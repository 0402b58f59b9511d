//go:build linux

package cgroup

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// fake makes the cgroup of container c1 in a folder.
func fake(t *testing.T, files map[string]string) string {
	t.Helper()
	old := Mount
	Mount = t.TempDir()
	t.Cleanup(func() { Mount = old })
	dir := dirOf("c1")
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMetrics(t *testing.T) {
	fake(t, map[string]string{
		"cpu.stat":                 "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 10\nnr_throttled 4\nthrottled_usec 7\n",
		"memory.stat":              "anon 100\nfile 200\nkernel_stack 1\nslab 2\npagetables 3\nsock 4\npgfault 5\npgmajfault 6\ninactive_file 7\n",
		"memory.events":            "low 0\nmax 8\noom 2\noom_kill 1\n",
		"memory.current":           "4096\n",
		"memory.peak":              "8192\n",
		"memory.max":               "134217728\n",
		"memory.swap.max":          "0\n",
		"memory.swap.current":      "0\n",
		"pids.current":             "3\n",
		"pids.max":                 "max\n",
		"io.stat":                  "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n253:1\nbad line\n",
		"hugetlb.2MB.current":      "0\n",
		"hugetlb.2MB.rsvd.current": "0\n",
	})
	m, err := Metrics("c1")
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string][2]uint64{
		"cpu":        {m.CPU.Usage.Total, 3000000},
		"throttled":  {m.CPU.Throttling.ThrottledPeriods, 4},
		"limit":      {m.Memory.Usage.Limit, 128 << 20},
		"usage":      {m.Memory.Usage.Usage, 4096},
		"peak":       {m.Memory.Usage.Max, 8192},
		"fail count": {m.Memory.Usage.Failcnt, 8},
		"both":       {m.Memory.Swap.Limit, 128 << 20},
		"rss":        {m.Memory.TotalRSS, 100},
		"cache":      {m.Memory.TotalCache, 200},
		"kernel":     {m.Memory.Kernel.Usage, 6},
		"oom kills":  {m.MemoryOomControl.OomKill, 1},
		"pids":       {m.Pids.Current, 3},
		"pid limit":  {m.Pids.Limit, 0},
		"disks":      {uint64(len(m.Blkio.IoServicedRecursive)), 3},
		"pages":      {uint64(len(m.Hugetlb)), 1},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: got %d, want %d", what, c[0], c[1])
		}
	}
	// The host reads these names.
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var names map[string]any
	if err := json.Unmarshal(b, &names); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"cpu", "memory", "pids", "blkio", "memory_oom_control"} {
		if names[n] == nil {
			t.Errorf("%s has no %s", b, n)
		}
	}
}

func TestMetricsWithoutControllers(t *testing.T) {
	fake(t, map[string]string{"cgroup.procs": ""})
	m, err := Metrics("c1")
	if err != nil || m.Memory.Usage.Limit != unlimited || m.Memory.Swap.Limit != unlimited {
		t.Errorf("got %v, %v", m, err)
	}
	if _, err := Metrics("c2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestProcesses(t *testing.T) {
	fake(t, map[string]string{"cgroup.procs": "1\n22\n", "sub/cgroup.procs": "333\n", "sub/deep/cgroup.procs": "", "other": "4\n"})
	got, err := Processes("c1")
	slices.Sort(got)
	if want := "[1 22 333]"; fmt.Sprint(got) != want || err != nil {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
	if got, err := Processes("c2"); len(got) > 0 || err != nil {
		t.Errorf("a cgroup that is not there: got %v, %v", got, err)
	}
}

func TestKill(t *testing.T) {
	dir := fake(t, map[string]string{"cgroup.kill": ""})
	if err := errors.Join(Kill("c1"), Kill("c2")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(dir + "/cgroup.kill"); string(b) != "1" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestWatchOOM(t *testing.T) {
	dir := fake(t, map[string]string{"memory.events": "oom_kill 0\n"})
	kills := make(chan uint64, 10)
	stop, err := WatchOOM("c1", func(n uint64) { kills <- n })
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n < 3; n++ {
		f, err := os.OpenFile(dir+"/memory.events", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "oom_kill %d\n", n)
		f.Close()
		select {
		case got := <-kills:
			if got != n {
				t.Errorf("got %d, want %d", got, n)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the kill was not seen")
		}
	}
	stop()
	if _, err := WatchOOM("c2", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestMemTotal(t *testing.T) {
	name := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(name, []byte("MemTotal:        2048 kB\nMemFree: 1 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := memTotal(name); got != 2<<20 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := memTotal(name); err == nil {
		t.Error("an empty file has a total")
	}
}
