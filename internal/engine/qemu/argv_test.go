//go:build linux

package qemu

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

func TestArgv(t *testing.T) {
	for name, c := range map[string]struct{ extra, accel string }{
		"default":   {"", AccelTCG},
		"kvm":       {"", AccelKVM},
		"plain":     {`{"VirtualMachine":{"StopOnReset":false,"Devices":{"VirtualPMem":{"MaximumCount":0}}}}`, AccelTCG},
		"committed": {`{"VirtualMachine":{"ComputeTopology":{"Memory":{"AllowOvercommit":false,"SizeInMB":2048},"Processor":{"Count":4}}}}`, AccelTCG},
		"vpmem-128": {`{"VirtualMachine":{"Devices":{"VirtualPMem":{"MaximumCount":128,"MaximumSizeBytes":17179869184}}}}`, AccelTCG},
		"four-scsi": {`{"VirtualMachine":{"Devices":{"Scsi":{"1":{},"2":{},"3":{}}}}}`, AccelTCG},
		"options": {`{"VirtualMachine":{"ComputeTopology":{"Memory":{"EnableColdDiscardHint":true,"LowMmioGapInMB":3072,"HighMmioBaseInMB":524288,"HighMmioGapInMB":65536}},
			"Devices":{"Keyboard":{},"VideoMonitor":{}},"StorageQoS":{"IopsMaximum":100,"BandwidthMaximum":1000000}}}`, AccelTCG},
		"no-shares":  {`{"VirtualMachine":{"Devices":{"Plan9":null}}}`, AccelTCG},
		"base":       {`{"VirtualMachine":{"ComputeTopology":{"Memory":{"HighMmioBaseInMB":524288}},"Devices":{"VirtualPMem":{"MaximumCount":0}}}}`, AccelTCG},
		"one-device": {`{"VirtualMachine":{"Devices":{"VirtualPMem":{"MaximumCount":1,"MaximumSizeBytes":1048576}}}}`, AccelTCG},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := newMachine("vm,1", patched(t, c.extra), 4)
			if err != nil {
				t.Fatal(err)
			}
			in := inherited{firmware: fastFirmware, qmp: 3, vsock: 4, console: 5, kernel: "/proc/self/fd/6", initrd: "/proc/self/fd/7"}
			if m.plan9 {
				in.shares = 8
			}
			got := strings.ReplaceAll(strings.Join(argv(m, c.accel, in), "\n"), "\n-", "\n\n-") + "\n"
			path := filepath.Join("testdata", "argv", name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("command line differs from %s:\n%s", path, got)
			}
		})
	}
}
