//go:build linux

package test

import (
	"context"
	"strings"
	"testing"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/uvm"
)

// The ways to boot that the reference's tests have, with each way to back the
// memory: cases 3 to 6, 42 and 43 of docs/cases.md.
func TestCase05Boot(t *testing.T) {
	begin(t)
	for _, c := range []struct {
		name                 string
		direct, vhd          bool
		scsi, vpmem          uint32
		overcommit, deferred bool
		has, lacks           []string // of the kernel's command line
	}{
		{"UEFI and initrd, bare", false, false, 0, 0, true, false, []string{"initrd=/initrd.img"}, []string{"root="}},
		{"UEFI and VHD, no SCSI", false, true, 0, 1, true, true, []string{"root=/dev/pmem0 ro rootwait init=/init"}, []string{"initrd=/"}},
		{"direct and initrd", true, false, 1, 32, false, false, nil, []string{"initrd=", "root="}},
		{"direct and VHD", true, true, 1, 32, true, false, []string{"root=/dev/pmem0 ro rootwait init=/init"}, []string{"initrd="}},
	} {
		step(t, c.name, func(ctx context.Context, t *testing.T) {
			o := options(t)
			o.KernelDirect, o.SCSIControllerCount, o.VPMemDeviceCount = c.direct, c.scsi, c.vpmem
			o.AllowOvercommit, o.EnableDeferredCommit = c.overcommit, c.deferred
			if !c.direct {
				o.KernelFile = uvm.KernelFile
			}
			if c.vhd {
				o.RootFSFile, o.PreferredRootFSType = uvm.VhdFile, uvm.PreferredRootFSTypeVHD
			}
			vm := create(ctx, t, o)
			if err := vm.Start(ctx); err != nil {
				explain(t, err)
				t.FailNow()
			}
			// There may be no shell: a share is the way in.
			line := strings.TrimSpace(kernelLine(ctx, t, vm))
			for _, want := range append(c.has, "nr_cpus=2", "panic=-1", "quiet", "brd.rd_nr=0") {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %s", want, line)
				}
			}
			for _, not := range c.lacks {
				if strings.Contains(line, not) {
					t.Errorf("%q in %s", not, line)
				}
			}
			if err := vm.Close(); err != nil {
				t.Error(err)
			}
			if err := vm.ExitError(); err != nil {
				t.Errorf("ExitError: %v", err)
			}
		})
	}
}

// kernelLine returns the command line that a VM has booted with.
func kernelLine(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) string {
	t.Helper()
	box := tool(t, "readlink", "-f", "/bin/busybox")
	dir := t.TempDir()
	tool(t, "cp", strings.TrimSpace(box), dir+"/sh")
	s, err := vm.AddPlan9(ctx, dir, "/run/mounts/tools", true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Release(ctx); err != nil {
			t.Error(err)
		}
	}()
	return finish(ctx, t, cow.Command(vm, "/run/mounts/tools/sh", "-c", "read line </proc/cmdline; echo \"$line\"")).stdout
}
