//go:build linux

package test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/test/leak"
	"github.com/byrevm/byre/uvm"
)

// patience is how long a test without its sub-tests, or a sub-test, may take.
// It is for what hangs: this machine may emulate several VMs at once.
const patience = 10 * time.Minute

// needed returns the path that an environment variable has, or a default.
func needed(t testing.TB, variable, otherwise string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = otherwise
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make e2e, which makes it", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func bootFiles(t testing.TB) string {
	t.Helper()
	return needed(t, "BYRE_BOOT_FILES", "../bin/LinuxBootFiles")
}

func testImage(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return needed(t, "BYRE_TEST_IMAGE", filepath.Join(cache, "byre-build", "demo-image"))
}

// begin watches for what the test leaves behind, and returns a context that
// ends with it or when it takes too long. What its sub-tests do is bounded by
// theirs.
func begin(t *testing.T) context.Context {
	t.Helper()
	leak.Check(t)
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	return bounded(t.Context(), t)
}

// bounded returns a context of its own that ends when t takes too long.
func bounded(ctx context.Context, t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(patience, func() { cancel(errPatience) })
	t.Cleanup(func() {
		timer.Stop()
		cancel(nil)
	})
	return ctx
}

var errPatience = errors.New("the test took too long")

// step runs a sub-test with a context of its own.
func step(t *testing.T, name string, f func(context.Context, *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { f(bounded(t.Context(), t), t) })
}

// options returns those of a small VM that boots from an initrd.
func options(t testing.TB) *uvm.OptionsLCOW {
	t.Helper()
	dir := bootFiles(t)
	if err := os.Setenv("BYRE_BOOT_FILES", dir); err != nil { // the default options depend on it
		t.Fatal(err)
	}
	o := uvm.NewDefaultOptionsLCOW("", "test")
	o.RootFSFile, o.PreferredRootFSType = uvm.InitrdFile, uvm.PreferredRootFSTypeInitRd
	o.MemorySizeInMB = 512
	return o
}

// create makes a VM and closes it at the end of the test.
func create(ctx context.Context, t testing.TB, o *uvm.OptionsLCOW) *uvm.UtilityVM {
	t.Helper()
	vm, err := uvm.CreateLCOW(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Errorf("closing the VM: %v", err)
		}
	})
	return vm
}

// boot makes a VM and starts it.
func boot(ctx context.Context, t testing.TB, o *uvm.OptionsLCOW) *uvm.UtilityVM {
	t.Helper()
	vm := create(ctx, t, o)
	if err := vm.Start(ctx); err != nil {
		explain(t, err)
		t.FailNow()
	}
	return vm
}

// explain prints what is known of a start that failed.
func explain(t testing.TB, err error) {
	t.Helper()
	t.Errorf("starting the VM: %v", err)
	var s *uvm.StartError
	if errors.As(err, &s) {
		t.Logf("stages %v, messages %q", s.Timeline, s.Messages)
		if s.Exit != nil {
			t.Logf("console:\n%s", strings.Join(s.Exit.Log, "\n"))
		}
	}
}

// open returns an image in a cache of the test's own.
func open(ctx context.Context, t testing.TB, ref string) *container.Image {
	t.Helper()
	img, err := container.OpenImage(ctx, ref, container.ImageOptions{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := img.Close(); err != nil {
			t.Errorf("closing the image: %v", err)
		}
	})
	return img
}

// add makes a container and deletes it at the end of the test.
func add(ctx context.Context, t testing.TB, vm *uvm.UtilityVM, img *container.Image, o container.SpecOptions) *container.Container {
	t.Helper()
	spec, err := container.NewSpec(img, o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := container.Create(ctx, vm, container.Config{Spec: spec, Layers: img.Layers()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if err := c.Delete(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

// idle makes a container that runs until it is deleted. Its init ends when it
// is told to, from the moment that idle returns: without a
// trap only SIGKILL ends the first process of a namespace.
func idle(ctx context.Context, t testing.TB, vm *uvm.UtilityVM, img *container.Image, o container.SpecOptions) *container.Container {
	t.Helper()
	o.Args = []string{"sh", "-c", `trap "exit 7" TERM; echo ready; while :; do sleep 3600 >/dev/null 2>&1 & wait $!; done`}
	c := add(ctx, t, vm, img, o)
	init := c.Init()
	r, w := io.Pipe()
	init.Stdout = w
	if err := init.Start(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(errors.Join(init.Wait(), io.EOF))
	}()
	t.Cleanup(func() { // before the Delete of add
		if _, err := init.Process.Kill(context.WithoutCancel(ctx)); err != nil {
			t.Logf("killing init: %v", err)
		}
		<-done
	})
	if _, err := io.ReadFull(r, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("init did not get ready: %v", err)
	}
	return c
}

// outcome is what a command did.
type outcome struct {
	stdout, stderr string
	code           int
}

// do runs a shell script in the container and returns what it did.
func do(ctx context.Context, t testing.TB, host cow.ProcessHost, script string) outcome {
	t.Helper()
	return finish(ctx, t, cow.Command(host, "sh", "-c", script))
}

// finish runs a command that has no output streams yet.
func finish(ctx context.Context, t testing.TB, cmd *cow.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout = &stdout
	if cmd.Spec == nil || !cmd.Spec.Terminal {
		cmd.Stderr = &stderr
	}
	err := cmd.Run(ctx)
	o := outcome{stdout: stdout.String(), stderr: stderr.String()}
	var exit *cow.ExitError
	switch {
	case errors.As(err, &exit) && exit.Cause == nil:
		o.code = exit.Code
	case err != nil:
		t.Fatalf("%v; stderr %q", err, o.stderr)
	}
	return o
}
