//go:build linux

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/byrevm/byre/container"
	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/uvm"
)

// A clerk is an OutputHandler that keeps what it reads.
type clerk struct {
	text  bytes.Buffer
	ended chan struct{}
}

func (c *clerk) read(r io.Reader) {
	io.Copy(&c.text, r)
	close(c.ended)
}

// Options of the machine, each by what it does in the guest or on the host.
func TestOptions(t *testing.T) {
	ctx := begin(t)
	const rate, requests = 4 << 20, 200 // bytes and requests a second
	log := &clerk{ended: make(chan struct{})}
	o := shellOptions(t)
	o.MemorySizeInMB = 600
	o.EnableDeferredCommit, o.EnableColdDiscardHint = true, true
	o.LowMMIOGapInMB, o.HighMMIOBaseInMB, o.HighMMIOGapInMB = 3584+64, 768<<10, 64<<10
	o.StorageQoSBandwidthMaximum, o.StorageQoSIopsMaximum = rate, requests
	o.ConsolePipe = filepath.Join(t.TempDir(), "console")
	o.KernelBootOptions, o.VPCIEnabled = "loglevel=7 toast byre.test=1 bread", true
	o.ForwardStdout, o.ForwardStderr, o.OutputHandler = true, true, log.read
	o.ExecCommandLine = "/bin/gcs -v4 -log-format text -loglevel debug"
	o.AdditionHCSDocumentJSON = `{"Owner":"merged","VirtualMachine":{"ComputeTopology":{"Processor":{"Count":1}}}}`
	vm := create(ctx, t, o)
	console := dialConsole(t, o.ConsolePipe)
	if err := vm.Start(ctx); err != nil {
		explain(t, err)
		t.FailNow()
	}
	sh := func(t *testing.T, script string) string {
		t.Helper()
		got := do(ctx, t, vm, script)
		if got.code != 0 {
			t.Errorf("%s: %+v", script, got)
		}
		return got.stdout
	}

	step(t, "debug shell", func(_ context.Context, t *testing.T) {
		if _, err := io.WriteString(console, "echo $((6*7))-answered\n"); err != nil {
			t.Fatal(err)
		}
		awaitText(t, console, "42-answered")
	})
	step(t, "command line", func(_ context.Context, t *testing.T) {
		line := sh(t, "busybox cat /proc/cmdline")
		for _, word := range []string{" toast byre.test=1 bread ", "panic=-1 ", " console=ttyS0,115200 ", " nr_cpus=2 ", o.ExecCommandLine} {
			if !strings.Contains(line, word) {
				t.Errorf("%q is not in %q", word, line)
			}
		}
		if strings.Contains(line, "pci=off") {
			t.Errorf("pci=off is in %q", line)
		}
	})
	step(t, "merged document", func(ctx context.Context, t *testing.T) {
		if got := strings.TrimSpace(sh(t, "busybox nproc")); got != "1" {
			t.Errorf("%s processors, want the 1 of the additional document", got)
		}
	})
	step(t, "addresses", func(_ context.Context, t *testing.T) { testAddresses(t, sh(t, "busybox cat /proc/iomem")) })
	step(t, "disk limits", func(ctx context.Context, t *testing.T) { testDiskLimits(ctx, t, vm, rate, requests) })
	step(t, "memory back-ends", func(ctx context.Context, t *testing.T) { testMemory(ctx, t, vm, 600<<20) })
	step(t, "statistics", func(ctx context.Context, t *testing.T) { testStatistics(ctx, t, vm, 600<<20) })
	step(t, "container", func(ctx context.Context, t *testing.T) { testContainerProperties(ctx, t, vm) })
	step(t, "processor limits on cgroup version 2", func(ctx context.Context, t *testing.T) { testCgroupV2(ctx, t, vm) })
	step(t, "output", func(ctx context.Context, t *testing.T) {
		if err := vm.Terminate(ctx); err != nil {
			t.Error(err)
		}
		<-log.ended
		if text := log.text.String(); !strings.Contains(text, "agent started") || strings.HasPrefix(text, "{") {
			t.Errorf("the handler got %.200q, want a log as text", text)
		}
	})
}

// testAddresses reads /proc/iomem of a machine of 600 MB with a gap of 3648 MB
// below 4 GiB, which leaves 448 of them there, and devices of 64 GiB at 768
// GiB.
func testAddresses(t *testing.T, iomem string) {
	var low, high uint64 // end of memory below 4 GiB, bytes above
	var bus string
	for line := range strings.Lines(iomem) {
		var from, to uint64
		if strings.HasPrefix(line, " ") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			continue
		}
		switch {
		case strings.Contains(line, "System RAM") && to < 4<<30:
			low = max(low, to+1)
		case strings.Contains(line, "System RAM"):
			high += to + 1 - from
		case strings.Contains(line, "PCI Bus 0000:00") && from > 4<<30:
			bus = fmt.Sprintf("%d GiB from %d", (to+1-from)>>30, from>>30)
		}
	}
	if low > 448<<20 || low < 440<<20 || high != 152<<20 {
		t.Errorf("memory below 4 GiB ends at %d MiB, above are %d MiB", low>>20, high>>20)
	}
	if want := "64 GiB from 768"; bus != want {
		t.Errorf("devices have %s, want %s:\n%s", bus, want, iomem)
	}
}

// testDiskLimits reads two disks at once, which have one limit together: of
// bytes, and then, a page at a time, of requests.
func testDiskLimits(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, rate, requests int) {
	const size = 6 << 20
	var devices []string
	for i := range 2 {
		disk := save(t, filepath.Join(t.TempDir(), "disk"), make([]byte, size))
		m, err := vm.AddSCSI(ctx, disk, "", true, uvm.VMAccessTypeIndividual)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Release(context.WithoutCancel(ctx)); err != nil {
				t.Error(err)
			}
		})
		devices = append(devices, fmt.Sprintf("/dev/sd%c", 'a'+i))
	}
	// The agent looks for a disk only if it mounts it.
	script := fmt.Sprintf(`for s in /sys/class/scsi_host/*/scan; do echo - - - >$s; done; for d in %s; do
		while ! busybox test -b $d; do busybox usleep 10000; done
	done`, strings.Join(devices, " "))
	if got := do(ctx, t, vm, script); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	read := func(what, prepare string, blocks, blockSize, perSecond int) {
		t.Helper()
		script := fmt.Sprintf(`for d in %s; do %s; busybox dd if=$d of=/dev/null bs=%d count=%d 2>/dev/null & done; wait`,
			strings.Join(devices, " "), prepare, blockSize, blocks)
		began := time.Now()
		if got := do(ctx, t, vm, script); got.code != 0 {
			t.Errorf("%+v", got)
		}
		all := 2 * blocks
		if what == "bytes" {
			all *= blockSize
		}
		// A tenth of a second's worth may come at once.
		took, least := time.Since(began), time.Duration(all-perSecond/10)*time.Second/time.Duration(perSecond)
		if took < least {
			t.Errorf("%d %s in %v, want at least %v", all, what, took, least)
		}
		t.Logf("%d %s in %v, at least %v were due", all, what, took, least)
	}
	read("bytes", ":", size>>16, 64<<10, rate)
	read("requests", "echo 3 >/proc/sys/vm/drop_caches; echo 0 >/sys/block/${d#/dev/}/queue/read_ahead_kb", requests, 4096, requests)
}

// guestMemory is how much of the guest's memory the host holds.
func guestMemory(t *testing.T, pid int) int64 {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, _ := os.Readlink(f); strings.Contains(to, "memfd:") && strings.Contains(to, "memory-backend-memfd") {
			var st syscall.Stat_t
			if err := syscall.Stat(f, &st); err != nil {
				t.Fatal(err)
			}
			return st.Blocks * 512
		}
	}
	t.Fatal("the guest has no memory")
	return 0
}

// testMemory: the host gives memory when the guest touches it, and has it back
// when the guest does not need it.
func testMemory(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, all int64) {
	const ask = 200 << 20
	pid := vmm(t, vm.ID())
	before := guestMemory(t, pid)
	if before > all*3/4 {
		t.Errorf("%d MiB of %d are there before they are needed", before>>20, all>>20)
	}
	got := do(ctx, t, vm, fmt.Sprintf("busybox mount -t tmpfs none /mnt && busybox dd if=/dev/zero of=/mnt/f bs=1M count=%d", ask>>20))
	if got.code != 0 {
		t.Fatalf("%+v", got)
	}
	full := guestMemory(t, pid)
	if full < before+ask*9/10 {
		t.Errorf("%d MiB after the guest took %d, %d before", full>>20, ask>>20, before>>20)
	}
	if got := do(ctx, t, vm, "busybox umount /mnt"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	// The guest reports every two seconds, and nobody tells when it has.
	now := full
	for tick := time.NewTicker(100 * time.Millisecond); now > full-ask*3/4 && ctx.Err() == nil; <-tick.C {
		now = guestMemory(t, pid)
	}
	t.Logf("%d MiB, %d when the guest had taken %d, %d after", before>>20, full>>20, ask>>20, now>>20)
}

// hostView reads what /proc says of a process: its processor time and its
// resident memory.
func hostView(t *testing.T, pid int) (cpu time.Duration, resident uint64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the state on, field 3 of proc(5)
	user, err1 := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	b, err3 := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	_, after, _ := strings.Cut(string(b), "Rss:")
	var kib uint64
	_, err4 := fmt.Sscan(after, &kib)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * time.Second / 100, kib << 10
}

func testStatistics(ctx context.Context, t *testing.T, vm *uvm.UtilityVM, all uint64) {
	pid := vmm(t, vm.ID())
	cpu, resident := hostView(t, pid)
	s, err := vm.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	later, _ := hostView(t, pid)
	const fraction = 20 // 5 %
	if got := time.Duration(s.Processor.TotalRuntimeNS); got < cpu-cpu/fraction || got > later+later/fraction {
		t.Errorf("processor time %v, the host says from %v to %v", got, cpu, later)
	}
	if got := s.Memory.WorkingSetBytes; got < resident-resident/fraction || got > resident+resident/fraction {
		t.Errorf("working set of %d, the host says %d", got, resident)
	}
	if got := s.Memory.VmMemory.AssignedMemory * 4096; got != all {
		t.Errorf("memory of %d, want %d", got, all)
	}
	t.Logf("processor %v, working set %d MiB; the host says %v and %d", time.Duration(s.Processor.TotalRuntimeNS), s.Memory.WorkingSetBytes>>20, cpu, resident>>20)
}

// testContainerProperties: what a container says of itself.
func testContainerProperties(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
	img := open(ctx, t, testImage(t))
	c := idle(ctx, t, vm, img, container.SpecOptions{})
	// Some work that one can see: processor time, memory, a second process.
	if got := do(ctx, t, c, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/dev/shm/f bs=1M count=8"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	p, err := c.PropertiesV2(ctx, hcsschema.PTStatistics)
	if err != nil {
		t.Fatal(err)
	}
	if m := p.LCOWMetrics; m == nil || m.CPU.Usage.Total < 1e6 || m.Memory.Usage.Usage < 8<<20 || m.Pids.Current < 2 {
		t.Errorf("statistics: %v", m)
	}
	old, err := c.Properties(ctx, "ProcessList")
	if err != nil {
		t.Fatal(err)
	}
	if len(old.ProcessList) < 2 || old.ProcessList[0].ProcessId == 0 {
		t.Errorf("processes: %+v", old.ProcessList)
	}
}

// testCgroupV2 runs the engine's own tests of cgroups where there is version 2
// only: in the guest.
func testCgroupV2(ctx context.Context, t *testing.T, vm *uvm.UtilityVM) {
	dir := t.TempDir()
	build := exec.Command("go", "test", "-c", "-ldflags=-s -w -linkmode=external -extldflags=-static", "-o", filepath.Join(dir, "qemu.test"), "../internal/engine/qemu")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	share, err := vm.AddPlan9(ctx, dir, "/run/tests", true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := share.Release(ctx); err != nil {
			t.Error(err)
		}
	}()
	for _, name := range []string{"TestCgroupOnHost", "TestCgroupWeight"} {
		got := finish(ctx, t, cow.Command(vm, "/run/tests/qemu.test", "-test.v", "-test.run", "^"+name+"$"))
		if got.code != 0 || !strings.Contains(got.stdout, "--- PASS: "+name) || !strings.Contains(got.stdout, "version 2") || strings.Contains(got.stdout, "refused") {
			t.Errorf("%+v", got)
		}
	}
}
