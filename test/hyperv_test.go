//go:build linux

package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/byrevm/byre/internal/bootfiles"
)

// vmbusTable is an ACPI table with nothing but the device of Hyper-V's VMBus:
//
//	Scope (\_SB) { Device (VMBS) { Name (_HID, "VMBUS") } }
var vmbusTable = []byte("\x10\x19\\_SB_[\x82\x12VMBS\x08_HID\rVMBUS\x00")

var (
	moduleLoaded = regexp.MustCompile(`module_load: (\w+)`)
	agentStarted = "agent started"
)

// TestHyperVModules boots our own agent, first where the ACPI tables say that
// there is a VMBus, then where they do not, and looks at what the kernel loads.
// There is no Hyper-V under emulation, so its drivers end with "no such
// device"; but persistent memory by NFIT, which is how the Host Compute Service
// has it, is real.
func TestHyperVModules(t *testing.T) {
	ctx := begin(t)
	dir := bootFiles(t)
	m, err := bootfiles.Check(dir)
	if err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(t.TempDir(), "vmbus.aml")
	if err := os.WriteFile(table, vmbusTable, 0o600); err != nil {
		t.Fatal(err)
	}
	boot := func(t *testing.T, initrd, words string, args ...string) (modules []string, log string) {
		t.Helper()
		cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{"-M", "q35,nvdimm=on", "-accel", "tcg,thread=multi", "-m", "512,slots=4,maxmem=4G",
			"-nodefaults", "-no-user-config", "-display", "none", "-bios", "qboot.rom", "-no-reboot", "-serial", "stdio", "-device", "virtio-scsi-pci",
			"-kernel", filepath.Join(dir, "vmlinux"), "-initrd", filepath.Join(dir, initrd), "-append",
			"console=ttyS0 panic=-1 trace_event=module:module_load tp_printk " + words + " -- /bin/gcs -loglevel debug"}, args...)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		before, log, ok := strings.Cut(out.String(), agentStarted)
		if !ok {
			t.Fatalf("the agent has not started\n%s", &out)
		}
		for _, found := range moduleLoaded.FindAllStringSubmatch(before, -1) {
			modules = append(modules, found[1])
		}
		return modules, before + log
	}
	t.Run("VMBus", func(t *testing.T) {
		modules, log := boot(t, "modules.img", "root=/dev/pmem0 ro rootwait init=/init", "-acpitable", "sig=SSDT,data="+table,
			"-object", fmt.Sprintf("memory-backend-file,id=pm,mem-path=%s,size=%d,share=on,readonly=on", filepath.Join(dir, "rootfs.vhd"), m.Files["rootfs.vhd"].Size-512),
			"-device", "nvdimm,memdev=pm,unarmed=on")
		if len(modules) == 0 || modules[0] != "hv_vmbus" || !slices.Contains(modules, "nfit") || !slices.Contains(modules, "nd_pmem") {
			t.Errorf("loaded %q, want hv_vmbus first, and nfit", modules)
		}
		for _, name := range modules {
			if strings.HasPrefix(name, "virtio") || name == "vmw_vsock_virtio_transport" {
				t.Errorf("loaded %s", name)
			}
		}
		for _, want := range []string{
			"inserting module hv_vmbus: finit_module /lib/modules/" + m.Kernel + "/kernel/drivers/hv/hv_vmbus.ko: no such device",
			"inserting module hv_sock: which needs hv_vmbus: ",
		} {
			if !strings.Contains(log, want) {
				t.Errorf("nobody says %q\n%s", want, log)
			}
		}
	})
	t.Run("QEMU", func(t *testing.T) {
		modules, log := boot(t, "initrd.img", "")
		if !slices.Contains(modules, "vmw_vsock_virtio_transport") {
			t.Errorf("loaded %q, want the transport of virtio\n%s", modules, log)
		}
		for _, name := range modules {
			if strings.HasPrefix(name, "hv_") || strings.HasPrefix(name, "hyperv") || name == "nfit" {
				t.Errorf("loaded %s", name)
			}
		}
		if strings.Contains(log, "hv_") {
			t.Errorf("something is said of Hyper-V\n%s", log)
		}
	})
}
