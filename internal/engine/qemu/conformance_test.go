//go:build linux

package qemu

import (
	"bufio"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcs/hcstest"
	"github.com/byrevm/byre/hcsschema"
)

func TestConformance(t *testing.T) {
	e := testEngine(t)
	var files atomic.Int64
	image := func(t hcstest.T, size int64) string {
		p := filepath.Join(t.TempDir(), fmt.Sprint(files.Add(1)))
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatalf("%v", err)
		}
		if err := os.Truncate(p, size); err != nil {
			t.Fatalf("%v", err)
		}
		return p
	}
	signal := func(sig syscall.Signal) func(hcstest.T, hcs.System) {
		return func(t hcstest.T, s hcs.System) {
			if err := syscall.Kill(s.(*system).proc.pid(), sig); err != nil {
				t.Errorf("%v", err)
			}
		}
	}
	f := hcstest.Fixture{
		Engine: e,
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
		Folder: func(t hcstest.T) string { return t.TempDir() },
		Socket: func(t hcstest.T) string {
			p := filepath.Join(t.TempDir(), fmt.Sprint(files.Add(1)))
			l, err := net.Listen("unix", p)
			if err != nil {
				t.Fatalf("%v", err)
			}
			t.Cleanup(func() { l.Close() })
			return p
		},
		// A device that can be given away needs an IOMMU: see hack/vfio.sh.
		NoPCI: func(hcstest.T) hcsschema.VirtualPciDevice {
			return hcsschema.VirtualPciDevice{Functions: []hcsschema.VirtualPciFunction{{DeviceInstancePath: "ffff:ff:1f.7"}}}
		},
		Refused: map[string]string{
			"Toaster":         `{"VirtualMachine":{"Devices":{"Toaster":{}}}}`,
			"GuestConnection": `{"VirtualMachine":{"GuestConnection":{"UseVsock":true}}}`,
			"EnableHotHint":   `{"VirtualMachine":{"ComputeTopology":{"Memory":{"EnableHotHint":true}}}}`,
			"VirtualSmb":      `{"VirtualMachine":{"Devices":{"VirtualSmb":{}}}}`,
		},
		Ends: map[string]hcstest.End{
			"killed":  {Do: signal(syscall.SIGKILL), Kind: hcs.ExitVMMKilled},
			"stopped": {Do: signal(syscall.SIGTERM), Kind: hcs.ExitVMMKilled},
			"crashed": {Do: signal(syscall.SIGSEGV), Kind: hcs.ExitVMMCrash},
			"aborted": {Do: signal(syscall.SIGABRT), Kind: hcs.ExitVMMCrash},
			"quit": {Do: func(t hcstest.T, s hcs.System) {
				if err := s.(*system).qmp.Execute(t.Context(), "quit", nil, nil); err != nil {
					t.Errorf("%v", err)
				}
			}, Kind: hcs.ExitTerminated},
		},
		Residue: func(t hcstest.T) []string { return residue(t, e.run.path) },
	}
	hcstest.TestEngine(hcstest.Wrap(t), f)
	hcstest.CheckTable(hcstest.Wrap(t), filepath.Join("..", "..", "..", "docs", "hcs.md"), "QEMU", hcstest.Paths(hcstest.Wrap(t), f), *update)
}

// checkResidue fails a test that leaves something on the host.
func checkResidue(t *testing.T, e *Engine) {
	t.Helper()
	hcstest.CheckResidue(hcstest.Wrap(t), func(t hcstest.T) []string { return residue(t, e.run.path) })
}

// residue lists what systems of this process can leave: processes, open
// files, claims and cgroups. It makes no mounts.
func residue(t hcstest.T, run string) []string {
	var out []string
	for _, pid := range children(os.Getpid()) {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		out = append(out, fmt.Sprintf("process %d %s", pid, strings.TrimSpace(string(name))))
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, fd := range fds {
		link, err := os.Readlink("/proc/self/fd/" + fd.Name())
		// The folder that is being read, and what the runtime opens once.
		if err == nil && !strings.HasPrefix(link, "/proc/") && !strings.Contains(link, "anon_inode") && !strings.HasPrefix(link, "/sys/fs/cgroup") {
			out = append(out, "file "+link)
		}
	}
	claims, _ := os.ReadDir(run)
	for _, c := range claims {
		if !strings.HasPrefix(c.Name(), ".") {
			out = append(out, "claim "+c.Name())
		}
	}
	h, err := findCgroups()
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, dir := range append(slices.Collect(mapsValues(h.v1)), h.unified) {
		if dir != "" {
			found, _ := filepath.Glob(filepath.Join(dir, "byre-*"))
			for _, f := range found {
				// Other tests of this module run at the same time.
				if b, _ := os.ReadFile(filepath.Join(f, "cgroup.procs")); len(b) == 0 || ours(string(b)) {
					out = append(out, "cgroup "+f)
				}
			}
		}
	}
	return out
}

func mapsValues(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// ours reports whether a list of processes has a child of this one.
func ours(pids string) bool {
	mine := children(os.Getpid())
	for s := bufio.NewScanner(strings.NewReader(pids)); s.Scan(); {
		var pid int
		fmt.Sscan(s.Text(), &pid)
		if slices.Contains(mine, pid) {
			return true
		}
	}
	return false
}

// children returns the child processes of a process, dead ones included.
func children(parent int) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, p := range tasks {
		b, err := os.ReadFile(p)
		if err != nil && !os.IsNotExist(err) && !isGone(err) {
			return nil
		}
		for f := range strings.FieldsSeq(string(b)) {
			var pid int
			fmt.Sscan(f, &pid)
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func isGone(err error) bool {
	e, ok := err.(*fs.PathError)
	return ok && e.Err == syscall.ESRCH
}
