//go:build linux

package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cavaliergopher/cpio"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/uvm"
)

// guestProgram is where testdata/guest is in a VM of guestOptions.
const guestProgram = "/bin/guest"

// buildGuest and buildShare build the programs of testdata, once.
var (
	buildGuest = sync.OnceValues(func() ([]byte, error) { return buildProgram("guest") })
	buildShare = sync.OnceValues(func() ([]byte, error) { return buildProgram("share") })
)

func buildProgram(name string) ([]byte, error) {
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "./testdata/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(file)
}

// guestOptions returns those of a VM that has testdata/guest too. command,
// unless it is empty, runs in place of the agent.
func guestOptions(t testing.TB, command string) *uvm.OptionsLCOW {
	t.Helper()
	o := options(t)
	program, err := buildGuest()
	if err != nil {
		t.Fatalf("building the program of the guest: %v", err)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(o.BootFilesPath, o.KernelFile), filepath.Join(dir, o.KernelFile)); err != nil {
		t.Fatal(err)
	}
	initrd, err := os.ReadFile(filepath.Join(o.BootFilesPath, o.RootFSFile))
	if err != nil {
		t.Fatal(err)
	}
	extra := archive(t, guestProgram[1:], program) // the kernel unpacks one after the other
	if err := os.WriteFile(filepath.Join(dir, o.RootFSFile), append(initrd, extra...), 0o644); err != nil {
		t.Fatal(err)
	}
	o.BootFilesPath = dir
	if command != "" {
		o.ExecCommandLine = command
	}
	return o
}

// archive returns a cpio archive of one program.
func archive(t testing.TB, name string, program []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	err := w.WriteHeader(&cpio.Header{Name: name, Mode: cpio.TypeReg | 0o755, Size: int64(len(program)), Links: 1})
	if err == nil {
		_, err = w.Write(program)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A guestProcess is testdata/guest that runs in a VM, spoken to by lines.
type guestProcess struct {
	cmd   *cow.Cmd
	stdin *io.PipeWriter
	out   *io.PipeReader
	ended chan error
}

// run starts testdata/guest beside the agent. It ends with the test.
func run(ctx context.Context, t testing.TB, vm *uvm.UtilityVM, what string) *guestProcess {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	p := &guestProcess{cmd: cow.Command(vm, guestProgram, what), stdin: inW, out: outR, ended: make(chan error, 1)}
	p.cmd.Stdin, p.cmd.Stdout = inR, outW
	if err := p.cmd.Start(ctx); err != nil {
		t.Fatalf("starting %s: %v", what, err)
	}
	go func() {
		err := p.cmd.Wait()
		outW.CloseWithError(io.EOF)
		p.ended <- err
	}()
	t.Cleanup(func() {
		inW.Close()
		outR.Close()
		p.cmd.Process.Kill(context.WithoutCancel(ctx))
		<-p.ended
	})
	return p
}

// vmm returns the process id of the QEMU that this process has started for
// a VM, and 0 if there is none.
func vmm(t testing.TB, id string) int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		line, err := os.ReadFile(filepath.Join(d, "cmdline"))
		if err != nil || !bytes.Contains(line, []byte("guest="+id)) || !strings.Contains(string(line), "qemu") {
			continue
		}
		var pid int
		fmt.Sscan(filepath.Base(d), &pid)
		return pid
	}
	return 0
}
