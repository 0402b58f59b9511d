package qemu

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

const defaultDocument = `{"Owner":"test","SchemaVersion":{"Major":2,"Minor":1},"VirtualMachine":{"StopOnReset":true,
 "Chipset":{"LinuxKernelDirect":{"KernelFilePath":"/boot/vmlinux","InitRdPath":"/boot/initrd.img","KernelCmdLine":"quiet"}},
 "ComputeTopology":{"Memory":{"SizeInMB":1024,"AllowOvercommit":true},"Processor":{"Count":2}},
 "Devices":{"Scsi":{"0":{}},"VirtualPMem":{"MaximumCount":64,"MaximumSizeBytes":4294967296},
  "HvSocket":{"HvSocketConfig":{"DefaultBindSecurityDescriptor":"D:P(A;;FA;;;SY)(A;;FA;;;BA)"}},"Plan9":{}}},
 "ShouldTerminateOnLastHandleClosed":true}`

// patched returns the default document with extra merged into it.
func patched(t *testing.T, extra string) hcs.Document {
	t.Helper()
	var cs hcsschema.ComputeSystem
	if err := hcs.Document(defaultDocument).Decode(&cs); err != nil {
		t.Fatal(err)
	}
	doc, err := hcs.NewDocument(&cs, extra)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestNewMachine(t *testing.T) {
	vm := func(s string) string { return `{"VirtualMachine":` + s + `}` }
	dev := func(s string) string { return vm(`{"Devices":` + s + `}`) }
	top := func(s string) string { return vm(`{"ComputeTopology":` + s + `}`) }
	for _, c := range []struct {
		extra, err string
		notThere   bool
	}{
		{"", "", false},
		{top(`{"Memory":{"SizeInMB":0}}`), "", false},
		{top(`{"Memory":{"SizeInMB":-1}}`), "negative", false},
		{top(`{"Memory":{"AllowOvercommit":false}}`), "", false},
		{top(`{"Memory":{"EnableDeferredCommit":true}}`), "", false},
		{top(`{"Memory":{"EnableDeferredCommit":true,"AllowOvercommit":false}}`), "EnableDeferredCommit", true},
		{top(`{"Memory":{"EnableHotHint":true}}`), "EnableHotHint", true},
		{top(`{"Memory":{"EnableColdHint":true}}`), "EnableColdHint", true},
		{top(`{"Memory":{"EnableEpf":true}}`), "EnableEpf", true},
		{top(`{"Memory":{"EnableColdDiscardHint":true}}`), "", false},
		{top(`{"Memory":{"EnableColdDiscardHint":true,"AllowOvercommit":false}}`), "EnableColdDiscardHint", true},
		{top(`{"Memory":{"LowMmioGapInMB":256}}`), "", false},
		{top(`{"Memory":{"LowMmioGapInMB":3841}}`), "LowMmioGapInMB", false},
		{top(`{"Memory":{"LowMmioGapInMB":18446744073709551615}}`), "LowMmioGapInMB", false},
		{top(`{"Memory":{"HighMmioGapInMB":65536,"HighMmioBaseInMB":524288}}`), "", false},
		{top(`{"Memory":{"HighMmioGapInMB":1048576}}`), "HighMmioGapInMB", false},
		{top(`{"Memory":{"HighMmioBaseInMB":1048576}}`), "the last address", false},
		{top(`{"Memory":{"HighMmioBaseInMB":1003520}}`), "", false},
		{top(`{"Memory":{"HighMmioBaseInMB":1004544}}`), "the last address", false},
		{top(`{"Memory":{"HighMmioBaseInMB":524289}}`), "multiple of 1024", false},
		{top(`{"Memory":{"HighMmioBaseInMB":8192}}`), "memory ends at", false},
		{top(`{"Processor":{"Limit":50000,"Weight":200}}`), "", false},
		{top(`{"Processor":{"Count":-1}}`), "processors", false},
		{top(`{"Processor":{"Limit":100001}}`), "limit", false},
		{top(`{"Processor":{"Weight":10001}}`), "weight", false},
		{top(`{"Processor":{"ExposeVirtualizationExtensions":true}}`), "ExposeVirtualizationExtensions", true},
		{vm(`{"GuestConnection":{"UseVsock":true}}`), "VirtualMachine.GuestConnection", true},
		{vm(`{"GuestConnection":{}}`), "VirtualMachine.GuestConnection", true},
		{vm(`{"StorageQoS":{"IopsMaximum":500}}`), "", false},
		{vm(`{"StorageQoS":{"BandwidthMaximum":-1}}`), "negative", false},
		{vm(`{"Chipset":{"Uefi":{"BootThis":{}}}}`), "both", false},
		{vm(`{"Unknown":1}`), "Unknown", true},
		{`{"Container":{}}`, "Container", true},
		{`{"HostedSystem":{},"HostingSystemId":"x"}`, "Host", true},
		{`{"SchemaVersion":{"Major":1,"Minor":0}}`, "SchemaVersion", true},
		{dev(`{"Plan9":{"Shares":[{"Name":"a"}]}}`), "Plan9.Shares", true},
		{dev(`{"VirtualSmb":{}}`), "VirtualSmb", true},
		{dev(`{"Mouse":{},"VirtualSmb":{"Shares":[{"Name":"os"}]}}`), "Windows guests do not run on QEMU", true},
		{dev(`{"NetworkAdapters":{"99999999-0000-4000-8000-000000000001":{"EndpointId":"e","MacAddress":"00-15-5D-00-00-01"}}}`), "", false},
		{dev(`{"NetworkAdapters":{"99999999-0000-4000-8000-000000000001":{}}}`), "EndpointId", false},
		{dev(`{"NetworkAdapters":{"x":{"EndpointId":"e"}}}`), "network adapter", false},
		{dev(`{"NetworkAdapters":{"x":{"IovSettings":{}}}}`), "IovSettings", true},
		{dev(`{"Keyboard":{},"VideoMonitor":{},"EnhancedModeVideo":{}}`), "", false},
		{dev(`{"VideoMonitor":{"HorizontalResolution":800}}`), "a screen of 800 by 0", false},
		{dev(`{"VideoMonitor":{"HorizontalResolution":800,"VerticalResolution":4097}}`), "a screen of 800 by 4097", false},
		{dev(`{"VideoMonitor":{"ConnectionOptions":{"NamedPipe":"x"}}}`), "VideoMonitor.ConnectionOptions", true},
		{dev(`{"EnhancedModeVideo":{"ConnectionOptions":{"NamedPipe":"x"}}}`), "EnhancedModeVideo.ConnectionOptions", true},
		{dev(`{"Mouse":{}}`), "Mouse", true},
		{dev(`{"HvSocket":{"HvSocketConfig":{"ServiceTable":{"x":{"AllowWildcardBinds":true}}}}}`), "", false},
		{dev(`{"ComPorts":{"0":{"NamedPipe":"/run/console"}}}`), "", false},
		{dev(`{"ComPorts":{"1":{"NamedPipe":"/run/console"}}}`), "serial port", true},
		{dev(`{"ComPorts":{"0":{"NamedPipe":"\\\\.\\pipe\\console"}}}`), "Windows pipe", true},
		{dev(`{"ComPorts":{"0":{"NamedPipe":"console"}}}`), "absolute", false},
		{dev(`{"ComPorts":{"0":{"NamedPipe":"/` + strings.Repeat("x", 107) + `"}}}`), "107", false},
		{dev(`{"Scsi":{"4":{}}}`), "controller", false},
		{dev(`{"Scsi":{"00":{}}}`), "controller", false},
		{dev(`{"Scsi":{"0":{"Attachments":{"64":{}}}}}`), "LUN", false},
		{dev(`{"Scsi":{"0":{"Attachments":{"0":{"CachingMode":"x"}}}}}`), "CachingMode", true},
		{dev(`{"VirtualPMem":{"MaximumCount":129}}`), "128", false},
		{dev(`{"VirtualPMem":{"MaximumCount":1,"Devices":{"1":{}}}}`), "device", false},
		{dev(`{"VirtualPMem":{"Backing":"x"}}`), "Backing", true},
		{dev(`{"VirtualPMem":{"MaximumSizeBytes":1000000000000}}`), "bytes", false},
	} {
		t.Run(c.extra, func(t *testing.T) {
			_, err := newMachine("vm", patched(t, c.extra), 4)
			switch {
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || errors.Is(err, hcs.ErrNotSupported) != c.notThere):
				t.Errorf("got %v, want an error with %q", err, c.err)
			}
		})
	}
	if _, err := newMachine("vm", hcs.Document(`{"SchemaVersion":{"Major":2}}`), 1); err == nil {
		t.Error("a document without a machine was taken")
	}
}

func TestFirmwareBoot(t *testing.T) {
	for _, c := range []struct {
		uefi string
		want boot
		err  string
	}{
		{`{"BootThis":{"DeviceType":"VmbFs","DevicePath":"\\kernel","VmbFsRootPath":"/boot","OptionalData":"initrd=/initrd.img quiet"}}`,
			boot{"/boot/kernel", "/boot/initrd.img", "initrd=/initrd.img quiet", true}, ""},
		{`{"BootThis":{"DeviceType":"VmbFs","DevicePath":"\\a\\kernel","VmbFsRootPath":"/boot","OptionalData":"root=/dev/pmem0 initrd=x"}}`,
			boot{"/boot/a/kernel", "", "root=/dev/pmem0 initrd=x", true}, ""},
		{`{"BootThis":{"DeviceType":"VmbFs","DevicePath":"\\..\\kernel","VmbFsRootPath":"/boot"}}`, boot{}, "not in the folder"},
		{`{"BootThis":{"DeviceType":"VmbFs","DevicePath":"\\kernel","VmbFsRootPath":"/boot","OptionalData":"initrd=../../etc/shadow"}}`, boot{}, "not in the folder"},
		{`{"BootThis":{"DeviceType":"VmbFs","DevicePath":"\\EFI\\Microsoft\\Boot\\bootmgfw.efi"}}`, boot{}, "Uefi"},
		{`{"BootThis":{"DeviceType":"ScsiDrive","DiskNumber":1}}`, boot{}, "DiskNumber"},
		{`{}`, boot{}, "Uefi"},
		{`{"EnableDebugger":true}`, boot{}, "EnableDebugger"},
	} {
		t.Run(c.uefi, func(t *testing.T) {
			doc := hcs.Document(`{"VirtualMachine":{"Chipset":{"Uefi":` + c.uefi + `}}}`)
			m, err := newMachine("vm", doc, 1)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want an error with %q", err, c.err)
				}
				return
			}
			if err != nil || *m.boot != c.want {
				t.Errorf("got %+v, %v; want %+v", m, err, c.want)
			}
		})
	}
}

// The tables of docs/hcs.md name exactly the members that the code does.
func TestMembersAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/hcs.md")
	if err != nil {
		t.Fatal(err)
	}
	section := func(title string) (names []string) {
		_, s, ok := strings.Cut(string(text), "\n"+title+"\n")
		if !ok {
			t.Fatalf("docs/hcs.md has no section %q", title)
		}
		s, _, _ = strings.Cut(s, "\n## ")
		for line := range strings.Lines(s) {
			if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "`"); ok && strings.HasPrefix(line, "| `") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	var without []string
	for m := range meaningless {
		without = append(without, m)
	}
	slices.Sort(without)
	for title, want := range map[string][]string{
		"## Members that are honoured": honoured, "## Members that mean nothing on Linux": without,
	} {
		if got := section(title); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\ngot  %v\nwant %v", title, got, want)
		}
	}
}
