package hcs

import (
	"errors"
	"testing"
)

func TestParsePath(t *testing.T) {
	for s, want := range map[string]Path{
		"VirtualMachine/Devices/Scsi/3/Attachments/63":                                {Resource: ResourceSCSI, Controller: 3, Number: 63},
		"VirtualMachine/Devices/VirtualPMem/Devices/127":                              {Resource: ResourceVPMem, Number: 127},
		"VirtualMachine/Devices/NetworkAdapters/99999999-0000-4000-8000-000000000001": {Resource: ResourceNetwork, Name: "99999999-0000-4000-8000-000000000001"},
		"VirtualMachine/Devices/VirtualPci/99999999-0000-4000-8000-000000000001":      {Resource: ResourcePCI, Name: "99999999-0000-4000-8000-000000000001"},
		`VirtualMachine/Devices/MappedPipes/\\.\pipe\x`:                               {Resource: ResourcePipe, Name: `\\.\pipe\x`},
		"VirtualMachine/Devices/MappedPipes//run/x.sock":                              {Resource: ResourcePipe, Name: "/run/x.sock"},
		"VirtualMachine/Devices/Plan9/Shares":                                         {Resource: ResourcePlan9},
		"VirtualMachine/Devices/VirtualSmb/Shares":                                    {Resource: ResourceVSMB},
		"VirtualMachine/ComputeTopology/Memory/SizeInMB":                              {Resource: ResourceMemory},
		"VirtualMachine/ComputeTopology/Processor/Limits":                             {Resource: ResourceProcessorLimits},
	} {
		got, err := ParsePath(s)
		if err != nil || got != want || got.String() != s {
			t.Errorf("ParsePath(%q) = %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "VirtualMachine", "VirtualMachine/Devices/Scsi/0/Attachments/01", "VirtualMachine/Devices/Scsi/-1/Attachments/0",
		"VirtualMachine/Devices/Scsi/0", "VirtualMachine/Devices/VirtualPMem/Devices/", "VirtualMachine/Devices/VirtualPMem/Devices/1/Mappings/0",
		"VirtualMachine/Devices/NetworkAdapters/", "VirtualMachine/Devices/NetworkAdapters/a/b", "VirtualMachine/Devices/MappedPipes/",
	} {
		if p, err := ParsePath(s); !errors.Is(err, ErrNotSupported) {
			t.Errorf("ParsePath(%q) = %+v, %v; want ErrNotSupported", s, p, err)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	f.Add(SCSIPath(1, 7))
	f.Add(VPMemPath(3))
	f.Add(PipePath("x"))
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePath(s); err == nil && p.String() != s {
			t.Errorf("%q parses as %+v, which is %q", s, p, p)
		}
	})
}
