//go:build linux

package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

func testEngine(t *testing.T) *Engine {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip(err)
	}
	return New(Config{Accel: AccelTCG, RunDir: filepath.Join(t.TempDir(), "run"), Logger: slog.New(slog.DiscardHandler)})
}

// testDocument is a machine without a kernel: it boots nothing.
func testDocument(t *testing.T, change func(*hcsschema.ComputeSystem)) hcs.Document {
	t.Helper()
	cs := &hcsschema.ComputeSystem{
		Owner: "test", SchemaVersion: hcsschema.SchemaV21(), ShouldTerminateOnLastHandleClosed: true,
		VirtualMachine: &hcsschema.VirtualMachine{
			StopOnReset: true,
			ComputeTopology: &hcsschema.Topology{
				Memory:    &hcsschema.Memory2{SizeInMB: 64, AllowOvercommit: true},
				Processor: &hcsschema.Processor2{Count: 1},
			},
			Devices: &hcsschema.Devices{
				Plan9:       &hcsschema.Plan9{},
				Scsi:        map[string]hcsschema.Scsi{"0": {}, "1": {}},
				VirtualPMem: &hcsschema.VirtualPMemController{MaximumCount: 64, MaximumSizeBytes: 4 << 30},
			},
		},
	}
	if change != nil {
		change(cs)
	}
	doc, err := hcs.NewDocument(cs, "")
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// running returns a system that runs.
func running(t *testing.T) *system {
	t.Helper()
	sys, err := testEngine(t).Create(t.Context(), "vm", testDocument(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sys.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := sys.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sys.(*system)
}

// modify sends a request as package uvm would: settings in their JSON form.
func modify(ctx context.Context, s hcs.System, kind hcsschema.RequestType, path string, settings any) error {
	return s.Modify(ctx, &hcsschema.ModifySettingRequest{ResourcePath: path, RequestType: kind, Settings: settings})
}

// file makes a file of zeros of that size.
func file(t *testing.T, name string, size int64) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	f, err := os.Create(p)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLife(t *testing.T) {
	s := running(t)
	p, err := s.Properties(t.Context(), hcsschema.PTStatistics, hcsschema.PTMemory)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(p)
	t.Logf("%s", b)
	for _, st := range s.Timeline() {
		t.Log(st.Name, st.Took)
	}
	disk := file(t, "disk", 1<<20)
	if err := modify(t.Context(), s, hcsschema.Add, hcs.SCSIPath(1, 7), hcsschema.Attachment{Type: "VirtualDisk", Path: disk}); err != nil {
		t.Fatal(err)
	}
	if err := modify(t.Context(), s, hcsschema.Remove, hcs.SCSIPath(1, 7), nil); err != nil {
		t.Fatal(err)
	}
	layer := file(t, "layer", 2<<20)
	if err := modify(t.Context(), s, hcsschema.Add, hcs.VPMemPath(40), hcsschema.VirtualPMemDevice{HostPath: layer, ReadOnly: true, ImageFormat: "Vhd1"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Terminate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var x *hcs.Exit
	if !errors.As(s.Err(), &x) || x.Kind != hcs.ExitTerminated {
		t.Errorf("got %v, want terminated", s.Err())
	}
}

// hang stops QEMU while do runs.
func hang(t *testing.T, s *system, do func()) {
	t.Helper()
	signal := func(sig syscall.Signal) {
		if err := syscall.Kill(s.proc.pid(), sig); err != nil {
			t.Error(err)
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	do()
}

// waitFor waits until a slot is in a state.
func waitFor(t *testing.T, s *system, p hcs.Path, want slotState) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		got := slotFree
		if sl := s.slots[p]; sl != nil {
			got = sl.state
		}
		s.mu.Unlock()
		if got == want {
			return
		}
	}
	t.Fatalf("slot %v does not get into state %v", p, want)
}
