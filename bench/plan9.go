//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/uvm"
)

// shareSize is what is read from or written to a file of a share.
const shareSize = 64 << 20

// plan9Read compares how fast a guest reads a file of a shared folder, which
// its kernel does not keep, with what the bare vsock device moves to a process
// of the guest. plan9Write does so for the other direction. Both sides are
// the same program, take turns in one VM, and are timed in the guest.
func plan9Read(ctx context.Context, _ setup) (result, error) {
	return plan9(ctx, "plan9-read", "MB/s", "bare vsock", func(ctx context.Context, d *sharedVM) (ours, theirs float64, err error) {
		if theirs, err = d.speed(ctx, io.LimitReader(zeros{}, shareSize), nil, "in", "65536"); err != nil {
			return 0, 0, err
		}
		ours, err = d.speed(ctx, nil, nil, "read", d.at+"/file", "1048576")
		return ours, theirs, err
	})
}

func plan9Write(ctx context.Context, _ setup) (result, error) {
	return plan9(ctx, "plan9-write", "MB/s", "bare vsock", func(ctx context.Context, d *sharedVM) (ours, theirs float64, err error) {
		if theirs, err = d.speed(ctx, nil, io.Discard, "out", "65536", strconv.Itoa(shareSize)); err != nil {
			return 0, 0, err
		}
		ours, err = d.speed(ctx, nil, nil, "write", d.at+"/new", "1048576", strconv.Itoa(shareSize))
		return ours, theirs, errors.Join(err, os.Remove(filepath.Join(d.dir, "new")))
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// A sharedVM has a folder of the host, with a program and a file, at a place.
type sharedVM struct {
	vm      *uvm.UtilityVM
	dir, at string
}

func plan9(ctx context.Context, name, unit, other string, round func(context.Context, *sharedVM) (ours, theirs float64, err error)) (r result, err error) {
	const rounds = 5
	r = result{Name: name, Unit: unit, N: rounds}
	d := &sharedVM{at: "/run/mounts/bench"}
	if d.dir, err = os.MkdirTemp("", "byre-bench-"); err != nil {
		return r, err
	}
	defer os.RemoveAll(d.dir)
	if err := buildShare(ctx, filepath.Join(d.dir, "share")); err != nil {
		return r, err
	}
	content := bytes.Repeat([]byte("0123456789abcdef"), shareSize/16)
	if err := os.WriteFile(filepath.Join(d.dir, "file"), content, 0o644); err != nil {
		return r, err
	}
	if d.vm, err = uvm.CreateLCOW(ctx, uvm.NewDefaultOptionsLCOW("", "bench")); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.vm.Close()) }()
	if err := d.vm.Start(ctx); err != nil {
		return r, err
	}
	if _, err := d.vm.AddPlan9(ctx, d.dir, d.at, false, false, nil); err != nil {
		return r, err
	}
	var ours, theirs []float64
	for i := range rounds {
		o, t, err := round(ctx, d)
		if err != nil {
			return r, err
		}
		ours, theirs = append(ours, o), append(theirs, t)
		fmt.Fprintf(os.Stderr, "%s %d of %d: share %.0f, %s %.0f %s\n", name, i+1, rounds, o, other, t, unit)
	}
	r.Ours, r.Theirs = median(ours), median(theirs)
	return r, nil
}

// buildShare builds the program that measures in the guest.
func buildShare(ctx context.Context, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./bench/testdata/share")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// speed runs the program and returns how fast it moved shareSize, in MB/s.
func (d *sharedVM) speed(ctx context.Context, in io.Reader, out io.Writer, args ...string) (float64, error) {
	took, err := d.run(ctx, in, out, args...)
	if err != nil {
		return 0, err
	}
	return shareSize / 1e6 / took[0], nil
}

// run runs the program and returns the times that it says, in seconds.
func (d *sharedVM) run(ctx context.Context, in io.Reader, out io.Writer, args ...string) (took []float64, err error) {
	var stderr bytes.Buffer
	cmd := cow.Command(d.vm, d.at+"/share", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &stderr
	if err := cmd.Run(ctx); err != nil {
		return nil, fmt.Errorf("%q: %w: %s", args, err, stderr.String())
	}
	for line := range strings.Lines(stderr.String()) {
		text, ok := strings.CutPrefix(line, "took ")
		s, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if !ok || err != nil || s <= 0 {
			return nil, fmt.Errorf("%q said %q", args, line)
		}
		took = append(took, s)
	}
	if len(took) == 0 {
		return nil, fmt.Errorf("%q said nothing", args)
	}
	return took, nil
}
