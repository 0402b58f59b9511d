//go:build linux

// Command bench measures byre against what it is built on, both in one run,
// and prints the ratios. It writes them to bench/results.json too.
//
//	make bench
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// A result is one comparison. Ratio is Ours / Theirs.
type result struct {
	Name   string  `json:"name"`
	Ours   float64 `json:"ours"`
	Theirs float64 `json:"theirs"`
	Ratio  float64 `json:"ratio"`
	Unit   string  `json:"unit"`
	N      int     `json:"n"`
	Load   float64 `json:"load"` // the machine's load before the first run
}

// setup is what every benchmark needs.
type setup struct {
	byre  string // the program
	boot  string // folder of boot files
	image string // OCI layout with busybox
	n     int
}

// benchmarks are all there are, in the order in which they run.
var benchmarks = []struct {
	name string
	run  func(context.Context, setup) (result, error)
}{
	{"cold-run", coldRun},
	{"stdout", stdout},
	{"plan9-read", plan9Read},
	{"plan9-write", plan9Write},
	{metaOperations[0], plan9Meta(0)},
	{metaOperations[1], plan9Meta(1)},
	{metaOperations[2], plan9Meta(2)},
	{"hot-add-scsi", hotAdd(plugSCSI)},
	{"hot-add-vpmem", hotAdd(plugVPMEM)},
	{"hot-add-nic", hotAdd(plugNIC)},
	{"hot-add-plan9", hotAdd(plugPlan9)},
	{"flat-scsi", flat(plugSCSI)},
	{"flat-vpmem", flat(plugVPMEM)},
	{"flat-nic", flat(plugNIC)},
	{"flat-plan9", flat(plugPlan9)},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := bench(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context) error {
	s := setup{boot: os.Getenv("BYRE_BOOT_FILES"), image: os.Getenv("BYRE_TEST_IMAGE")}
	var out, only string
	flag.StringVar(&only, "only", "", "`names` of the benchmarks to run, separated by commas")
	flag.StringVar(&s.byre, "byre", "bin/byre", "the `program` to measure")
	flag.IntVar(&s.n, "n", 10, "`rounds`")
	flag.StringVar(&out, "o", filepath.Join("bench", "results.json"), "`file` for the results")
	flag.Parse()
	if s.boot == "" || s.image == "" {
		return fmt.Errorf("BYRE_BOOT_FILES and BYRE_TEST_IMAGE are not set: run make bench")
	}
	results := []result{}
	var failed error // the others are still worth their time
	for _, b := range benchmarks {
		if only != "" && !slices.Contains(strings.Split(only, ","), b.name) {
			continue
		}
		load := loadAverage()
		r, err := b.run(ctx, s)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", b.name, err)
			failed = errors.Join(failed, fmt.Errorf("%s: %w", b.name, err))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		r.Ratio, r.Load = r.Ours/r.Theirs, load
		results = append(results, r)
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\nbenchmark\tours\ttheirs\tratio\tunit\tn\tload")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.2f\t%s\t%d\t%.1f\n", r.Name, r.Ours, r.Theirs, r.Ratio, r.Unit, r.N, r.Load)
	}
	t.Flush()
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(failed, os.WriteFile(out, append(b, '\n'), 0o644))
}

func loadAverage() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

func median(all []float64) float64 {
	s := slices.Sorted(slices.Values(all))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
