//go:build linux

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// script makes a program that runs a command line.
func script(t *testing.T, line string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(p, []byte("#!/bin/sh\n"+line+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Its folder, too, must be open to the user that QEMU runs as.
	for d := filepath.Dir(p); d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func fakeEngine(t *testing.T, until string) *Engine {
	t.Helper()
	e := testEngine(t)
	self := filepath.Join(t.TempDir(), "self")
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(self, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	e.config.Binary = script(t, fmt.Sprintf("exec %s fake %s", self, until))
	for d := filepath.Dir(self); d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// A QEMU that goes at any stage gives an error that says at which, and what it
// printed; nothing is left.
func TestVMMFailsAtStage(t *testing.T) {
	disk := file(t, "disk", 1<<20)
	doc := testDocument(t, func(cs *hcsschema.ComputeSystem) {
		cs.VirtualMachine.Devices.Scsi["0"] = hcsschema.Scsi{Attachments: map[string]hcsschema.Attachment{
			"0": {Type: hcsschema.AttachmentVirtualDisk, Path: disk, ReadOnly: true},
		}}
	})
	for _, c := range []struct {
		until, stage, cause string
		gone                bool // QEMU has ended by itself
	}{
		{"start", "vmm-ready", "exit status 7: fake: going to fail at start", true},
		{"garbage", "vmm-ready", "greeting", false},
		{"endless", "vmm-ready", "line of more than", false},
		{"version", "vmm-ready", "older than 7.2", false},
		{"qmp_capabilities", "vmm-ready", "exit status 7", true},
		{"qmp_capabilities!", "vmm-ready", "fake refuses", false},
		{"add-fd", "devices", "exit status 7", true},
		{"blockdev-add", "devices", "exit status 7", true},
		{"blockdev-add!", "devices", "fake refuses", false},
		{"device_add", "devices", "exit status 7", true},
		{"device_add!", "devices", "fake refuses", false},
		{"cont", "guest-run", "exit status 7", true},
		{"cont!", "guest-run", "fake refuses", false},
	} {
		t.Run(c.until, func(t *testing.T) {
			t.Parallel()
			e := fakeEngine(t, c.until)
			s, err := e.Create(t.Context(), "vm", doc)
			if err == nil {
				defer s.Close()
				err = s.Start(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), "stage "+c.stage) || !strings.Contains(err.Error(), c.cause) {
				t.Fatalf("got %v, want the stage %s and the cause %q", err, c.stage, c.cause)
			}
			var x *hcs.Exit
			if errors.As(err, &x) != c.gone {
				t.Errorf("%v has an exit: %v, want %v", err, x, c.gone)
			} else if c.gone && (x.Kind != hcs.ExitVMMCrash || !strings.Contains(strings.Join(x.Log, "\n"), "fake: going")) {
				t.Errorf("exit %v with the lines %q", x, x.Log)
			}
		})
	}
}

func TestVMMFailsLeavesNothing(t *testing.T) {
	for _, until := range []string{"start", "garbage", "qmp_capabilities", "cont"} {
		t.Run(until, func(t *testing.T) {
			e := fakeEngine(t, until)
			checkResidue(t, e)
			s, err := e.Create(t.Context(), "vm", testDocument(t, nil))
			if err == nil {
				err = s.Start(t.Context())
				s.Close()
			}
			if err == nil {
				t.Error("no error")
			}
		})
	}
}

// Bad input is refused before anything is made.
func TestCreateRefuses(t *testing.T) {
	empty := file(t, "empty", 0)
	boot := func(kernel, initrd string) func(*hcsschema.ComputeSystem) {
		return func(cs *hcsschema.ComputeSystem) {
			cs.VirtualMachine.Chipset = &hcsschema.Chipset{LinuxKernelDirect: &hcsschema.LinuxKernelDirect{KernelFilePath: kernel, InitRdPath: initrd}}
		}
	}
	memory := func(mb int32, overcommit bool) func(*hcsschema.ComputeSystem) {
		return func(cs *hcsschema.ComputeSystem) {
			cs.VirtualMachine.ComputeTopology.Memory = &hcsschema.Memory2{SizeInMB: mb, AllowOvercommit: overcommit}
		}
	}
	for name, c := range map[string]struct {
		change func(*hcsschema.ComputeSystem)
		binary string
		err    string
		is     error
	}{
		"missing kernel":     {boot("/nowhere/vmlinux", ""), "", "opening the kernel", fs.ErrNotExist},
		"missing initrd":     {boot(os.Args[0], "/nowhere/initrd"), "", "opening the initrd", fs.ErrNotExist},
		"empty kernel":       {boot(empty, ""), "", "is empty", nil},
		"kernel is a folder": {boot("/", ""), "", "neither a file nor", nil},
		"no kernel":          {boot("", ""), "", "KernelFilePath", nil},
		"not a kernel":       {boot(file(t, "kernel", 1024), ""), "", "not a Linux kernel", nil},
		"negative memory":    {memory(-1, true), "", "negative", nil},
		"too much memory":    {memory(1_000_000_000, true), "", "more than the host's", nil},
		"missing QEMU":       {nil, "/nowhere/qemu", "apt-get install", fs.ErrNotExist},
		"QEMU not in PATH":   {nil, "qemu-system-nowhere", "apt-get install", exec.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			e := testEngine(t)
			checkResidue(t, e)
			e.config.Binary = c.binary
			s, err := e.Create(t.Context(), "vm", testDocument(t, c.change))
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.err) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %q", err, c.err)
			}
			if _, err := os.Stat(e.run.path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the run folder was made: %v", err)
			}
		})
	}
}

// A kernel that QEMU cannot start is an error of Create, with QEMU's words.
func TestCreateBadKernel(t *testing.T) {
	e := testEngine(t)
	checkResidue(t, e)
	kernel := writeFile(t, "kernel", append([]byte("\x7fELF"), make([]byte, 4096)...))
	s, err := e.Create(t.Context(), "vm", testDocument(t, func(cs *hcsschema.ComputeSystem) {
		cs.VirtualMachine.Chipset = &hcsschema.Chipset{LinuxKernelDirect: &hcsschema.LinuxKernelDirect{KernelFilePath: kernel}}
	}))
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "kernel") || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v", err)
	}
}

// A context that ends at any moment of Create and Start leaves nothing.
func TestCancelAtEachStep(t *testing.T) {
	e := testEngine(t)
	checkResidue(t, e)
	disk, console := file(t, "disk", 1<<20), filepath.Join(t.TempDir(), "console")
	doc := testDocument(t, func(cs *hcsschema.ComputeSystem) {
		cs.VirtualMachine.Devices.ComPorts = map[string]hcsschema.ComPort{"0": {NamedPipe: console}}
		cs.VirtualMachine.Devices.Scsi["0"] = hcsschema.Scsi{Attachments: map[string]hcsschema.Attachment{
			"0": {Type: hcsschema.AttachmentVirtualDisk, Path: disk, ReadOnly: true},
		}}
	})
	// The moments get further apart until the system starts in time.
	for after := time.Millisecond; after < time.Minute; after = after * 5 / 4 {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		s, err := e.Create(ctx, "vm", doc)
		if err == nil {
			err = s.Start(ctx)
			if cerr := s.Close(); cerr != nil {
				t.Error(cerr)
			}
		}
		cancel()
		if _, serr := os.Lstat(console); !errors.Is(serr, fs.ErrNotExist) {
			t.Errorf("after %v: the console is still there", after)
		}
		if err == nil {
			return
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("after %v: %v", after, err)
		}
	}
	t.Error("never started")
}

// kill -9 of the owner: QEMU, its cgroups and the watcher are gone within two
// seconds, everything else with the next Create.
func TestOwnerKilled(t *testing.T) {
	e := testEngine(t)
	checkResidue(t, e)
	console := filepath.Join(t.TempDir(), "console")
	doc := testDocument(t, func(cs *hcsschema.ComputeSystem) {
		cs.VirtualMachine.Devices.ComPorts = map[string]hcsschema.ComPort{"0": {NamedPipe: console}}
	})
	owner := exec.Command("/proc/self/exe", "own", e.run.path, "owned")
	owner.Stdin = strings.NewReader(string(doc))
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err == nil {
		err = owner.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var got owned
	if err := jsonDecode(out, &got); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Create(t.Context(), "owned", doc); !errors.Is(err, hcs.ErrAlreadyExists) {
		t.Errorf("while the owner lives: %v, want ErrAlreadyExists", err)
	}
	killed := time.Now()
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	owner.Wait()
	for {
		left := stillThere(got)
		if left == "" {
			t.Logf("all gone after %v", time.Since(killed))
			break
		}
		if time.Since(killed) > 2*time.Second {
			t.Fatalf("after 2 s: %s", left)
		}
		time.Sleep(time.Millisecond)
	}
	// Another system cleans up, too.
	s, err := e.Create(t.Context(), "other", testDocument(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(console); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the console is still there")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func stillThere(o owned) string {
	for name, pid := range map[string]int{"QEMU": o.QEMU, "watcher": o.Watcher} {
		if st, err := readStat(pid); pid != 0 && err == nil && st.state != 'Z' {
			return name + " runs"
		}
	}
	for _, dir := range o.Cgroups {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return ""
}

// Threads come and go in the owner; QEMU stays until the owner goes.
func TestThreadsEnd(t *testing.T) {
	e := testEngine(t)
	var s hcs.System
	var err error
	done := make(chan struct{})
	go func() { // a thread that ends
		defer close(done)
		runtime.LockOSThread()
		s, err = e.Create(t.Context(), "vm", testDocument(t, nil))
	}()
	<-done
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 100 {
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if i%10 == 0 {
					runtime.LockOSThread() // ends its thread
				}
				syscall.Getpid()
			})
		}
		wg.Wait()
	}
	if err := s.Start(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("stopped: %v", err)
	}
}

// What QEMU may do on the host.
func TestConfinement(t *testing.T) {
	s := running(t)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.proc.pid()))
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) string {
		for line := range strings.Lines(string(status)) {
			if v, ok := strings.CutPrefix(line, name+":"); ok {
				return strings.Join(strings.Fields(v), " ")
			}
		}
		return ""
	}
	if got := value("Seccomp"); got != "2" {
		t.Errorf("seccomp mode %s, want 2", got)
	}
	if os.Geteuid() == 0 {
		if got, want := value("Uid"), fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", s.claim.rec.UID); got != want || s.claim.rec.UID == 0 {
			t.Errorf("QEMU runs as %s, want %s", got, want)
		}
		for _, set := range []string{"CapEff", "CapPrm", "CapInh", "CapAmb"} {
			if got := value(set); strings.Trim(got, "0") != "" {
				t.Errorf("%s is %s", set, got)
			}
		}
		if got := value("Groups"); got != "" {
			t.Errorf("supplementary groups %s", got)
		}
	}
}
