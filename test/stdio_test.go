//go:build linux

package test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

func TestStdio(t *testing.T) {
	ctx := begin(t)
	img := open(ctx, t, testImage(t))
	vm := boot(ctx, t, options(t))
	c := idle(ctx, t, vm, img, container.SpecOptions{})

	step(t, "much", func(ctx context.Context, t *testing.T) { testMuch(ctx, t, c) })
	step(t, "often", func(ctx context.Context, t *testing.T) { testOften(ctx, t, vm, c) })
	step(t, "a reader that stops", func(ctx context.Context, t *testing.T) { testBlocked(ctx, t, c) })
	step(t, "a reader that goes", func(ctx context.Context, t *testing.T) { testGone(ctx, t, c) })
}

// testMuch compares sums of what is written and of what arrives.
func testMuch(ctx context.Context, t *testing.T, c *container.Container) {
	// The guest writes everything twice: to us, and to a program that adds it
	// up. The blocks are numbered, so that each is another one.
	const megabytes = 256
	cmd := cow.Command(c, "sh", "-c", fmt.Sprintf(
		`head -c 1048576 /dev/urandom >/tmp/block
		all() { i=0; while [ $i -lt %d ]; do echo $i; cat /tmp/block; i=$((i+1)); done; }
		all; all | sha256sum >&2`, megabytes))
	sum := sha256.New()
	var count counter
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = io.MultiWriter(sum, &count), &stderr
	began := time.Now()
	if err := cmd.Run(ctx); err != nil {
		t.Fatalf("%v; stderr %q", err, stderr.String())
	}
	if got, want := fmt.Sprintf("%x", sum.Sum(nil)), strings.Fields(stderr.String())[0]; got != want {
		t.Errorf("%d bytes arrived with sum %s, written was %s", count, got, want)
	}
	t.Logf("%d bytes in %v, the guest's sums included", count, time.Since(began))
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// testOften runs many short processes: the exit must not overtake the output.
// Those of the VM itself are cheaper.
func testOften(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, c *container.Container) {
	const inContainer, all, workers = 40, 200, 4
	version := ofVM(ctx, t, vm)
	jobs := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range jobs {
				if i >= inContainer {
					if got := ofVM(ctx, t, vm); got != version {
						t.Errorf("process %d: got %q, want %q", i, got, version)
					}
					continue
				}
				out, err := c.Command("echo", fmt.Sprint(i)).Output(ctx)
				if want := fmt.Sprintf("%d\n", i); err != nil || string(out) != want {
					t.Errorf("echo %d: got %q, %v", i, out, err)
				}
			}
		})
	}
	for i := range all {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
}

// ofVM returns the output of a short process of the VM itself.
func ofVM(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) string {
	cmd := &cow.Cmd{Host: vm, Spec: &specs.Process{CommandLine: "runc --version"}}
	out, err := cmd.Output(ctx)
	if err != nil {
		t.Error(err)
	}
	return string(out)
}

// testBlocked stops reading one stream: everything else must go on.
func testBlocked(ctx context.Context, t *testing.T, c *container.Container) {
	r, w := io.Pipe()
	slow := c.Command("sh", "-c", "head -c 33554432 /dev/zero; echo end")
	slow.Stdout = w
	if err := slow.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := do(ctx, t, c, "head -c 4194304 /dev/zero | wc -c; head -c 4194304 /dev/zero >&2"); got.stdout != "4194304\n" || len(got.stderr) != 4<<20 {
			t.Errorf("beside a blocked stream: stdout %q, %d bytes of stderr", got.stdout, len(got.stderr))
		}
		if _, err := c.PropertiesV2(ctx, hcsschema.PTProcessList); err != nil {
			t.Error(err)
		}
	}
	rest := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(r)
		rest <- string(b)
	}()
	if err := slow.Wait(); err != nil {
		t.Error(err)
	}
	w.Close()
	if b := <-rest; len(b) != 32<<20-1+len("end\n") || !strings.HasSuffix(b, "end\n") {
		t.Errorf("%d bytes followed", len(b))
	}
}

// testGone closes the reading side: the process must learn of it.
func testGone(ctx context.Context, t *testing.T, c *container.Container) {
	r, w := io.Pipe()
	yes := c.Command("yes")
	yes.Stdout = w
	if err := yes.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	r.CloseWithError(io.ErrClosedPipe)
	if err := yes.Wait(); err == nil {
		t.Error("the process ended well, although nobody read it")
	} else {
		t.Log(err)
	}
}
