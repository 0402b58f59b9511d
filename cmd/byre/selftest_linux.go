package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/engine"
)

const engineName = "QEMU"

// newFixture returns the engine of this host and what the suite has to know of
// it. Its systems are written down apart from those of others. clean removes
// that when the tests are over.
func newFixture() (f hcstest.Fixture, clean func() error, err error) {
	run, err := os.MkdirTemp("", "byre-selftest-run-*")
	if err != nil {
		return f, nil, err
	}
	var files atomic.Int64
	image := func(t hcstest.T, size int64) string {
		p := filepath.Join(t.TempDir(), fmt.Sprint(files.Add(1)))
		if err := errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, size)); err != nil {
			t.Fatalf("making a disk: %v", err)
		}
		return p
	}
	return hcstest.Fixture{
		Engine: engine.New(engine.Config{RunDir: run}),
		System: func(hcstest.T) *hcsschema.ComputeSystem {
			return &hcsschema.ComputeSystem{
				SchemaVersion: hcsschema.SchemaV21(),
				VirtualMachine: &hcsschema.VirtualMachine{
					ComputeTopology: &hcsschema.Topology{Memory: &hcsschema.Memory2{SizeInMB: 64, AllowOvercommit: true}},
					Devices: &hcsschema.Devices{
						Scsi:        map[string]hcsschema.Scsi{"0": {}},
						VirtualPMem: &hcsschema.VirtualPMemController{MaximumCount: 2},
					},
				},
			}
		},
		Disk: func(t hcstest.T) string { return image(t, 1<<20) },
		PMem: func(t hcstest.T) hcsschema.VirtualPMemDevice {
			return hcsschema.VirtualPMemDevice{HostPath: image(t, 2<<20), ReadOnly: true, ImageFormat: hcsschema.ImageFormatVhd1}
		},
		Folder:  func(t hcstest.T) string { return t.TempDir() },
		Refused: map[string]string{"Toaster": `{"VirtualMachine":{"Devices":{"Toaster":{}}}}`},
		Ends: map[string]hcstest.End{
			"killed":  {Do: signalQEMU(syscall.SIGKILL), Kind: hcs.ExitVMMKilled},
			"stopped": {Do: signalQEMU(syscall.SIGTERM), Kind: hcs.ExitVMMKilled},
			"crashed": {Do: signalQEMU(syscall.SIGSEGV), Kind: hcs.ExitVMMCrash},
		},
		Residue: func(t hcstest.T) []string { return residue(t, run) },
	}, func() error { return os.RemoveAll(run) }, nil
}

// signalQEMU sends a signal to the only system.
func signalQEMU(sig syscall.Signal) func(hcstest.T, hcs.System) {
	return func(t hcstest.T, _ hcs.System) {
		var pids []int
		for _, p := range children() {
			if strings.HasPrefix(commandOf(p), "qemu") {
				pids = append(pids, p)
			}
		}
		if len(pids) != 1 {
			t.Fatalf("got %d processes of QEMU, want 1", len(pids))
		}
		if err := syscall.Kill(pids[0], sig); err != nil {
			t.Errorf("ending QEMU: %v", err)
		}
	}
}

// residue lists what systems of this process can leave: processes, open files,
// and what is written down.
func residue(t hcstest.T, run string) (left []string) {
	for _, p := range children() {
		left = append(left, fmt.Sprintf("process %d %s", p, commandOf(p)))
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatalf("listing open files: %v", err)
	}
	for _, fd := range fds {
		link, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil || strings.HasPrefix(link, "/proc/") || strings.HasPrefix(link, "/sys/") || strings.Contains(link, "anon_inode") {
			continue // what is being read, and what the runtime opens once
		}
		left = append(left, "file "+link)
	}
	claims, err := os.ReadDir(run)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("listing what is written down: %v", err)
	}
	for _, c := range claims {
		if !strings.HasPrefix(c.Name(), ".") {
			left = append(left, "record "+c.Name())
		}
	}
	return left
}

// children returns the processes that this one has started and not waited for.
func children() (pids []int) {
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, p := range tasks {
		b, err := os.ReadFile(p)
		if err != nil {
			continue // the thread has just ended
		}
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return pids
}

func commandOf(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)) // "" if it has just ended
	return strings.TrimSpace(string(b))
}
