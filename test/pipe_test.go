//go:build linux

package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

// listenEcho makes a socket of the host that sends back what it gets. ended
// has the end of each connection.
func listenEcho(t *testing.T) (path string, ended chan struct{}) {
	t.Helper()
	path, ended = filepath.Join(t.TempDir(), "app.sock"), make(chan struct{}, 1000)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { ended <- struct{}{} }()
				defer c.Close()
				if _, err := io.Copy(c, c); err == nil {
					c.(*net.UnixConn).CloseWrite()
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return path, ended
}

// buildClient builds the program that is the client, in a folder to share.
func buildClient(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(bin, "socket"), "./testdata/socket")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// Sockets of the host in containers, and in their VM.
func TestPipe(t *testing.T) {
	ctx := begin(t)
	bin := buildClient(t)
	path, ended := listenEcho(t)
	img := open(ctx, t, testImage(t))
	vm := boot(ctx, t, options(t))
	if _, caps := vm.Capabilities(); !caps.MappedPipeSupported {
		t.Fatal("the agent does not say that it shares sockets")
	}
	program, err := vm.AddPlan9(ctx, bin, "/run/mounts/program", true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	mode := fmt.Sprintf("Srw-r----- %d %d\n", os.Getuid(), os.Getgid())
	t.Run("container", func(t *testing.T) {
		c := idle(ctx, t, vm, img, container.SpecOptions{Mounts: []specs.Mount{
			{Type: "bind", Source: bin, Destination: "/program", Options: []string{"rbind", "ro"}},
			{Type: "bind", Source: path, Destination: "/app.sock", Options: []string{"rbind", "rw"}},
			{Type: "bind", Source: path, Destination: "/ro/app.sock", Options: []string{"rbind", "ro"}},
		}})
		for script, want := range map[string]string{
			"/program/socket echo /app.sock 200": "", "/program/socket echo /ro/app.sock 1": "", "/program/socket mode /app.sock": mode,
		} {
			if got := do(ctx, t, c, script); got.code != 0 || got.stdout+got.stderr != want {
				t.Errorf("%s: %+v", script, got)
			}
		}
	})
	pipe, err := vm.AddPipe(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{path, pipe.UVMPath()} { // at the same path, too
		for args, want := range map[string]string{"echo " + at + " 20": "", "mode " + at: mode} {
			if got := machine(ctx, t, vm, args); got != want {
				t.Errorf("%s: %s", args, got)
			}
		}
	}
	step(t, "remove", func(ctx context.Context, t *testing.T) { testPipeRemove(ctx, t, vm, pipe, ended) })
	step(t, "refused", func(ctx context.Context, t *testing.T) { testPipeRefused(ctx, t, vm, path) })
	if err := program.Release(ctx); err != nil {
		t.Error(err)
	}
}

// machine runs the client in the VM itself and returns what it printed.
func machine(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, args string) string {
	t.Helper()
	p, err := vm.CreateProcess(ctx, &hcsschema.ProcessParameters{CommandLine: "/run/mounts/program/socket " + args, CreateStdOutPipe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, stdout, _ := p.Stdio()
	out, err := io.ReadAll(stdout)
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	if code, err := p.ExitCode(); code != 0 || err != nil {
		t.Errorf("%s: exit code %d, %v: %s", args, code, err, out)
	}
	return string(out)
}

// testPipeRemove ends the sharing while somebody is connected.
func testPipeRemove(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, pipe *uvm.PipeMount, ended chan struct{}) {
	for len(ended) > 0 {
		<-ended
	}
	p, err := vm.CreateProcess(ctx, &hcsschema.ProcessParameters{CommandLine: "/run/mounts/program/socket hold " + pipe.UVMPath(), CreateStdOutPipe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, stdout, _ := p.Stdio()
	out := bufio.NewReader(stdout)
	if line, err := out.ReadString('\n'); line != "connected\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := pipe.Release(ctx); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err = errors.Join(err, p.Wait()); err != nil {
		t.Fatal(err)
	}
	if code, err := p.ExitCode(); code != 0 || err != nil {
		t.Errorf("exit code %d, %v: %s", code, err, rest)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the server was not told")
	}
	for _, at := range []string{pipe.HostPath, pipe.UVMPath()} {
		if got := machine(ctx, t, vm, "none "+at); got != "" {
			t.Errorf("after the removal: %s", got)
		}
	}
	if err := vm.RemovePipe(ctx, pipe.HostPath); !errors.Is(err, uvm.ErrNotAttached) {
		t.Error(err)
	}
}

func testPipeRefused(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, path string) {
	dead := filepath.Join(t.TempDir(), "dead")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for bad, want := range map[string]string{
		`\\.\pipe\x`: "Windows pipe", "relative": "absolute", path + "x": "no such file", filepath.Dir(path): "not a socket", dead: "refused",
	} {
		if _, err := vm.AddPipe(ctx, bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := vm.AddPipe(ctx, `\\.\pipe\x`); !errors.Is(err, hcs.ErrNotSupported) {
		t.Error(err)
	}
	// What is at the path in the guest stays, and nothing is shared.
	link := filepath.Join("/tmp", filepath.Base(t.TempDir())+".sock")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(link)
	first, err := vm.AddPipe(ctx, link)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vm.AddPipe(ctx, "/tmp/../tmp/"+filepath.Base(link)); err == nil {
		t.Error("shared twice at one place")
	}
	if err := first.Release(ctx); err != nil {
		t.Error(err)
	}
}

// The flag of the command that shares a socket.
func TestRunSocket(t *testing.T) {
	ctx := begin(t)
	bin := buildClient(t)
	path, _ := listenEcho(t)
	got := call(t, byre(ctx, t, "run", "-v", path+":/app.sock", "-v", bin+":/p:ro", testImage(t), "/p/socket", "echo", "/app.sock", "30"))
	if got.code != 0 || got.stdout != "" {
		t.Errorf("got %+v", got)
	}
}
