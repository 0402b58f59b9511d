//go:build linux

package test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/byrevm/byre/internal/bootfiles"
)

// TestBootFiles makes boot files from the stock kernel package, with an agent
// that stands in for ours, and boots each of them.
func TestBootFiles(t *testing.T) {
	ctx := begin(t)
	agent := filepath.Join(t.TempDir(), "gcs")
	build := exec.CommandContext(ctx, "go", "build", "-o", agent, "../internal/bootfiles/testdata/agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "boot")
	start := time.Now()
	m, err := bootfiles.Build(ctx, dir, bootfiles.Input{KernelPackage: kernelPackage(ctx, t), Agent: agent, Runtime: agent})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("made boot files for %s in %v", m.Kernel, time.Since(start).Round(time.Millisecond))
	if _, err := bootfiles.Verify(ctx, dir); err != nil {
		t.Error(err)
	}
	for _, note := range m.Notes {
		t.Error(note)
	}
	if len(m.Missing) > 0 {
		t.Errorf("missing modules: %q", m.Missing)
	}
	vhd := filepath.Join(dir, "rootfs.vhd")
	const tmpfs, ext4 = "0x1021994", "0xef53"
	for name, c := range map[string]struct {
		kernel, initrd, append, root string
		args                         []string
	}{
		"initrd":  {kernel: "vmlinux", initrd: "initrd.img", root: tmpfs},
		"bzImage": {kernel: "kernel", initrd: "initrd.img", root: tmpfs},
		"VHD on pmem": {"vmlinux", "modules.img", "root=/dev/pmem0 ro rootwait init=/init", ext4, []string{
			"-object", fmt.Sprintf("memory-backend-file,id=pm,mem-path=%s,size=%d,share=on,readonly=on", vhd, m.Files["rootfs.vhd"].Size-512),
			"-device", "virtio-pmem-pci,memdev=pm"}},
		"VHD on SCSI": {"vmlinux", "modules.img", "root=/dev/sda ro rootwait init=/init", ext4, []string{
			"-blockdev", "driver=vpc,node-name=d,read-only=on,file.driver=file,file.read-only=on,file.filename=" + vhd,
			"-device", "scsi-hd,drive=d,bus=scsi0.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{"-M", "q35", "-accel", "tcg,thread=multi", "-m", "512,slots=4,maxmem=4G",
				"-nodefaults", "-no-user-config", "-display", "none", "-bios", "qboot.rom", "-no-reboot", "-serial", "stdio",
				"-device", "virtio-scsi-pci,id=scsi0", "-kernel", filepath.Join(dir, c.kernel), "-initrd", filepath.Join(dir, c.initrd),
				"-append", "console=ttyS0 panic=-1 quiet " + c.append}, c.args...)...)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			start := time.Now()
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, &out)
			}
			t.Logf("from QEMU's start to its end: %v", time.Since(start).Round(time.Millisecond))
			want := []string{"agent: up as /init", "agent: core is in", "agent: erofs on demand: true", "agent: root is " + c.root}
			if c.root == ext4 {
				want = append(want[:2:2], want[1:]...) // once from modules.img, once from the disk
			}
			var got []string
			for line := range strings.Lines(out.String()) {
				if strings.HasPrefix(line, "agent: ") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if len(got) != len(want) {
				t.Fatalf("got %q, want %q\n%s", got, want, &out)
			}
			for i := range want {
				if !strings.HasPrefix(got[i], want[i]) {
					t.Errorf("got %q, want %q", got[i], want[i])
				}
			}
		})
	}
}

// kernelPackage is the path of the package that the boot files are made from.
func kernelPackage(ctx context.Context, t *testing.T) string {
	t.Helper()
	dir := os.Getenv("BYRE_TEST_KERNEL")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "byre-build", "kernel")
	}
	cmd := exec.CommandContext(ctx, "../hack/kernel.sh", dir)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return strings.TrimSpace(string(out))
}
