//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"

	"os"
	"path"
	"time"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/uvm"
)

const streamSize = 256 << 20

// dd writes streamSize bytes, in pieces that cost the writer little.
var dd = []string{"dd", "if=/dev/zero", "bs=64k", fmt.Sprintf("count=%d", streamSize>>16)}

// stdout compares what a container's stdout moves through the API with what
// the bare vsock device moves: a process of the VM that has the socket itself
// as its stdout. Both send the same bytes, in turns, in one VM.
func stdout(ctx context.Context, s setup) (r result, err error) {
	const rounds = 5
	r = result{Name: "stdout", Unit: "MB/s", N: rounds}
	vm, err := uvm.CreateLCOW(ctx, uvm.NewDefaultOptionsLCOW("", "bench"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	if err := vm.Start(ctx); err != nil {
		return r, err
	}
	img, err := container.OpenImage(ctx, s.image, container.ImageOptions{})
	if err != nil {
		return r, err
	}
	defer img.Close()
	spec, err := container.NewSpec(img, container.SpecOptions{Args: []string{"sleep", "3600"}})
	if err != nil {
		return r, err
	}
	c, err := container.Create(ctx, vm, container.Config{Spec: spec, Layers: img.Layers()})
	if err != nil {
		return r, err
	}
	init := c.Init()
	if err := init.Start(ctx); err != nil {
		return r, err
	}
	defer init.Wait()
	defer init.Process.Kill(ctx)

	busybox := path.Join("/run/gcs/c", c.ID(), "rootfs/bin/busybox")
	var ours, theirs []float64
	for i := range rounds {
		bare, bareSum, err := stream(ctx, vmProcess(vm, busybox, dd...))
		if err != nil {
			return r, fmt.Errorf("bare vsock: %w", err)
		}
		got, sum, err := stream(ctx, c.Command(dd[0], dd[1:]...))
		if err != nil {
			return r, fmt.Errorf("stdout of a container: %w", err)
		}
		if string(sum) != string(bareSum) {
			return r, fmt.Errorf("sums differ: %x and %x", sum, bareSum)
		}
		ours, theirs = append(ours, got), append(theirs, bare)
		fmt.Fprintf(os.Stderr, "stdout %d of %d: container %.0f MB/s, bare vsock %.0f MB/s, sums equal\n", i+1, rounds, got, bare)
	}
	r.Ours, r.Theirs = median(ours), median(theirs)
	return r, nil
}

// stream runs cmd and returns how fast it wrote, in MB/s from its first bytes
// to its last, and the sum of what it wrote.
func stream(ctx context.Context, cmd *cow.Cmd) (float64, []byte, error) {
	w := &counter{sum: crc32.NewIEEE()}
	cmd.Stdout = w
	if err := cmd.Run(ctx); err != nil {
		return 0, nil, err
	}
	if w.n != streamSize {
		return 0, nil, fmt.Errorf("%d bytes arrived of %d", w.n, streamSize)
	}
	return float64(w.n-w.first) / 1e6 / w.last.Sub(w.began).Seconds(), w.sum.Sum(nil), nil
}

// A counter counts and sums what is written, and notes when: what it takes to
// start a process is not part of what its output moves.
type counter struct {
	n, first    int64 // bytes, in all and in the first write
	began, last time.Time
	sum         hash.Hash
}

func (c *counter) Write(b []byte) (int, error) {
	c.last = time.Now()
	if c.n == 0 {
		c.began, c.first = c.last, int64(len(b))
	}
	c.n += int64(len(b))
	return c.sum.Write(b)
}

// vmProcess returns a command of the VM itself.
func vmProcess(vm *uvm.UtilityVM, program string, args ...string) *cow.Cmd {
	return cow.Command(vm, program, args...)
}
