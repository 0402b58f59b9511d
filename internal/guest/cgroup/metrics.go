//go:build linux

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3/cgroup1/stats"
)

// Metrics returns a container's figures in the shape of version 1. What
// version 2 does not have stays zero.
func Metrics(id string) (*stats.Metrics, error) {
	dir := dirOf(id)
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	return &stats.Metrics{
		Pids:             &stats.PidsStat{Current: number(dir, "pids.current"), Limit: limit(dir, "pids.max", 0)},
		CPU:              cpu(dir),
		Memory:           memory(dir),
		Blkio:            blkio(dir),
		Hugetlb:          hugetlb(dir),
		MemoryOomControl: &stats.MemoryOomControl{OomKill: keyed(dir, "memory.events")["oom_kill"]},
	}, nil
}

func cpu(dir string) *stats.CPUStat {
	s := keyed(dir, "cpu.stat")
	const ns = 1000 // from microseconds
	return &stats.CPUStat{
		Usage: &stats.CPUUsage{Total: s["usage_usec"] * ns, Kernel: s["system_usec"] * ns, User: s["user_usec"] * ns},
		Throttling: &stats.Throttle{
			Periods: s["nr_periods"], ThrottledPeriods: s["nr_throttled"], ThrottledTime: s["throttled_usec"] * ns,
		},
	}
}

// unlimited is what version 1 says for no limit.
const unlimited = 1<<63 - 4096

func memory(dir string) *stats.MemoryStat {
	s := keyed(dir, "memory.stat")
	events := keyed(dir, "memory.events")
	max := limit(dir, "memory.max", unlimited)
	usage := number(dir, "memory.current")
	swapMax := limit(dir, "memory.swap.max", unlimited)
	swap := number(dir, "memory.swap.current")
	both := uint64(unlimited)
	if max != unlimited && swapMax != unlimited {
		both = max + swapMax
	}
	m := &stats.MemoryStat{
		// file has shared memory in it, as cache had.
		Cache: s["file"], RSS: s["anon"], RSSHuge: s["anon_thp"], MappedFile: s["file_mapped"],
		Dirty: s["file_dirty"], Writeback: s["file_writeback"],
		PgFault: s["pgfault"], PgMajFault: s["pgmajfault"],
		InactiveAnon: s["inactive_anon"], ActiveAnon: s["active_anon"],
		InactiveFile: s["inactive_file"], ActiveFile: s["active_file"], Unevictable: s["unevictable"],
		HierarchicalMemoryLimit: max, HierarchicalSwapLimit: both,
		Usage: &stats.MemoryEntry{Limit: max, Usage: usage, Max: number(dir, "memory.peak"), Failcnt: events["max"]},
		// In version 1 this is memory and swap together.
		Swap:      &stats.MemoryEntry{Limit: both, Usage: usage + swap, Max: number(dir, "memory.swap.peak")},
		Kernel:    &stats.MemoryEntry{Limit: unlimited, Usage: s["kernel_stack"] + s["slab"] + s["pagetables"] + s["percpu"]},
		KernelTCP: &stats.MemoryEntry{Limit: unlimited, Usage: s["sock"]},
	}
	// Version 2 counts hierarchically, always.
	m.TotalCache, m.TotalRSS, m.TotalRSSHuge, m.TotalMappedFile = m.Cache, m.RSS, m.RSSHuge, m.MappedFile
	m.TotalDirty, m.TotalWriteback = m.Dirty, m.Writeback
	m.TotalPgFault, m.TotalPgMajFault = m.PgFault, m.PgMajFault
	m.TotalInactiveAnon, m.TotalActiveAnon = m.InactiveAnon, m.ActiveAnon
	m.TotalInactiveFile, m.TotalActiveFile, m.TotalUnevictable = m.InactiveFile, m.ActiveFile, m.Unevictable
	return m
}

// maxDisks bounds the answer to the host.
const maxDisks = 64

func blkio(dir string) *stats.BlkIOStat {
	b := &stats.BlkIOStat{}
	for _, line := range lines(dir, "io.stat") {
		// 8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		majS, minS, _ := strings.Cut(f[0], ":")
		maj, err1 := strconv.ParseUint(majS, 10, 64)
		min, err2 := strconv.ParseUint(minS, 10, 64)
		if errors.Join(err1, err2) != nil {
			continue
		}
		for _, kv := range f[1:] {
			k, v, _ := strings.Cut(kv, "=")
			n, err := strconv.ParseUint(v, 10, 64)
			op := map[byte]string{'r': "Read", 'w': "Write", 'd': "Discard"}[kv[0]]
			if err != nil || op == "" {
				continue
			}
			e := &stats.BlkIOEntry{Op: op, Major: maj, Minor: min, Value: n}
			switch {
			case strings.HasSuffix(k, "bytes"):
				b.IoServiceBytesRecursive = append(b.IoServiceBytesRecursive, e)
			case strings.HasSuffix(k, "ios"):
				b.IoServicedRecursive = append(b.IoServicedRecursive, e)
			}
		}
		if len(b.IoServicedRecursive) >= 3*maxDisks {
			break
		}
	}
	return b
}

func hugetlb(dir string) []*stats.HugetlbStat {
	files, err := filepath.Glob(filepath.Join(dir, "hugetlb.*.current"))
	if err != nil {
		return nil
	}
	var all []*stats.HugetlbStat
	for _, f := range files {
		size := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "hugetlb."), ".current")
		if strings.Contains(size, ".") {
			continue // hugetlb.2MB.rsvd.current
		}
		all = append(all, &stats.HugetlbStat{
			Pagesize: size, Usage: number(dir, filepath.Base(f)),
			Failcnt: keyed(dir, "hugetlb."+size+".events")["max"],
		})
	}
	return all
}

// keyed reads a file of lines "key number". One that is not there, because its
// controller is off, is empty.
func keyed(dir, name string) map[string]uint64 {
	m := make(map[string]uint64)
	for _, line := range lines(dir, name) {
		if k, v, ok := strings.Cut(line, " "); ok {
			if n, err := strconv.ParseUint(v, 10, 64); err == nil {
				m[k] = n
			}
		}
	}
	return m
}

func lines(dir, name string) []string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func number(dir, name string) uint64 { return limit(dir, name, 0) }

// limit reads a number, or none for "max" and for a file that is not there.
func limit(dir, name string, none uint64) uint64 {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return none
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return none
	}
	return n
}
