//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// coldRun compares `byre run --rm IMAGE true`, the image converted already,
// with a bare QEMU that boots the same kernel and initrd to the agent's first
// line. The two take turns.
func coldRun(ctx context.Context, s setup) (result, error) {
	r := result{Name: "cold-run", Unit: "s", N: s.n}
	if _, err := runTrue(ctx, s); err != nil { // converts the image
		return r, err
	}
	var ours, theirs []float64
	stages := make(map[string][]float64)
	var order []string
	for i := range s.n {
		bare, err := bareBoot(ctx, s)
		if err != nil {
			return r, fmt.Errorf("bare QEMU: %w", err)
		}
		rep, err := runTrue(ctx, s)
		if err != nil {
			return r, err
		}
		theirs, ours = append(theirs, bare.Seconds()), append(ours, rep.wall.Seconds())
		for _, st := range rep.Stages {
			if stages[st.Name] == nil {
				order = append(order, st.Name)
			}
			stages[st.Name] = append(stages[st.Name], st.Took)
		}
		fmt.Fprintf(os.Stderr, "cold run %d of %d: byre %.2f s, bare QEMU %.2f s\n", i+1, s.n, rep.wall.Seconds(), bare.Seconds())
	}
	r.Ours, r.Theirs = median(ours), median(theirs)
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "stage\tmin\tmedian\tmax")
	for _, name := range order {
		all := stages[name]
		fmt.Fprintf(t, "%s\t%.1f ms\t%.1f ms\t%.1f ms\n", name, 1000*slices.Min(all), 1000*median(all), 1000*slices.Max(all))
	}
	return r, t.Flush()
}

// report is what byre run --json prints.
type report struct {
	Stages []struct {
		Name string  `json:"name"`
		Took float64 `json:"tookSeconds"`
	} `json:"stages"`
	wall time.Duration
}

func runTrue(ctx context.Context, s setup) (*report, error) {
	cmd := exec.CommandContext(ctx, s.byre, "run", "--rm", "--json", s.image, "true")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	err := cmd.Run()
	rep := &report{wall: time.Since(began)}
	if err != nil {
		return nil, fmt.Errorf("byre run: %w\n%s", err, stderr.String())
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), rep); err != nil {
		return nil, fmt.Errorf("reading the report of byre run: %w", err)
	}
	return rep, nil
}

// bareBoot returns the time from starting QEMU to the agent's first line on
// the console.
func bareBoot(ctx context.Context, s setup) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	kernel := filepath.Join(s.boot, "vmlinux")
	if _, err := os.Stat(kernel); err != nil {
		kernel = filepath.Join(s.boot, "kernel")
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-bios", "qboot.rom", "-accel", accel(), "-m", "1024", "-smp", "2",
		"-kernel", kernel, "-initrd", filepath.Join(s.boot, "initrd.img"),
		"-append", "console=ttyS0 panic=-1 quiet nr_cpus=2 -- /bin/gcs -v4 -log-format json -loglevel info",
		"-serial", "stdio")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	var seen []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		// The agent's lines are JSON objects, the kernel's are not.
		if strings.HasPrefix(lines.Text(), "{") {
			return time.Since(began), nil
		}
		seen = append(seen, lines.Text())
	}
	return 0, errors.New("the console ended before the agent's first line:\n" + strings.Join(seen, "\n"))
}

// accel returns the acceleration that byre uses on this host.
func accel() string {
	if a := os.Getenv("BYRE_ACCEL"); a == "kvm" {
		return "kvm"
	}
	return "tcg,thread=multi"
}
