package qemu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/byrevm/byre/hcs"
)

// The members of a document that have an effect here, as [hcs.Members] names
// them. docs/hcs.md has the same list, with what each does.
var honoured = []string{
	"Owner",
	"SchemaVersion",
	"SchemaVersion.Major",
	"SchemaVersion.Minor",
	"ShouldTerminateOnLastHandleClosed",
	"VirtualMachine",
	"VirtualMachine.Chipset",
	"VirtualMachine.Chipset.LinuxKernelDirect",
	"VirtualMachine.Chipset.LinuxKernelDirect.InitRdPath",
	"VirtualMachine.Chipset.LinuxKernelDirect.KernelCmdLine",
	"VirtualMachine.Chipset.LinuxKernelDirect.KernelFilePath",
	"VirtualMachine.Chipset.Uefi",
	"VirtualMachine.Chipset.Uefi.BootThis",
	"VirtualMachine.Chipset.Uefi.BootThis.DevicePath",
	"VirtualMachine.Chipset.Uefi.BootThis.DeviceType",
	"VirtualMachine.Chipset.Uefi.BootThis.OptionalData",
	"VirtualMachine.Chipset.Uefi.BootThis.VmbFsRootPath",
	"VirtualMachine.Chipset.UseUtc",
	"VirtualMachine.ComputeTopology",
	"VirtualMachine.ComputeTopology.Memory",
	"VirtualMachine.ComputeTopology.Memory.AllowOvercommit",
	"VirtualMachine.ComputeTopology.Memory.EnableColdDiscardHint",
	"VirtualMachine.ComputeTopology.Memory.EnableDeferredCommit",
	"VirtualMachine.ComputeTopology.Memory.HighMmioBaseInMB",
	"VirtualMachine.ComputeTopology.Memory.HighMmioGapInMB",
	"VirtualMachine.ComputeTopology.Memory.LowMmioGapInMB",
	"VirtualMachine.ComputeTopology.Memory.SizeInMB",
	"VirtualMachine.ComputeTopology.Processor",
	"VirtualMachine.ComputeTopology.Processor.Count",
	"VirtualMachine.ComputeTopology.Processor.Limit",
	"VirtualMachine.ComputeTopology.Processor.Weight",
	"VirtualMachine.Devices",
	"VirtualMachine.Devices.ComPorts",
	"VirtualMachine.Devices.ComPorts[].NamedPipe",
	"VirtualMachine.Devices.Keyboard",
	"VirtualMachine.Devices.NetworkAdapters",
	"VirtualMachine.Devices.NetworkAdapters[].EndpointId",
	"VirtualMachine.Devices.NetworkAdapters[].MacAddress",
	"VirtualMachine.Devices.Plan9",
	"VirtualMachine.Devices.Scsi",
	"VirtualMachine.Devices.Scsi[].Attachments",
	"VirtualMachine.Devices.Scsi[].Attachments[].IgnoreFlushes",
	"VirtualMachine.Devices.Scsi[].Attachments[].Path",
	"VirtualMachine.Devices.Scsi[].Attachments[].ReadOnly",
	"VirtualMachine.Devices.Scsi[].Attachments[].Type",
	"VirtualMachine.Devices.VideoMonitor",
	"VirtualMachine.Devices.VideoMonitor.HorizontalResolution",
	"VirtualMachine.Devices.VideoMonitor.VerticalResolution",
	"VirtualMachine.Devices.VirtualPMem",
	"VirtualMachine.Devices.VirtualPMem.Devices",
	"VirtualMachine.Devices.VirtualPMem.Devices[].HostPath",
	"VirtualMachine.Devices.VirtualPMem.Devices[].ImageFormat",
	"VirtualMachine.Devices.VirtualPMem.Devices[].ReadOnly",
	"VirtualMachine.Devices.VirtualPMem.MaximumCount",
	"VirtualMachine.Devices.VirtualPMem.MaximumSizeBytes",
	"VirtualMachine.Devices.VirtualPci",
	"VirtualMachine.Devices.VirtualPci[].Functions",
	"VirtualMachine.Devices.VirtualPci[].Functions[].DeviceInstancePath",
	"VirtualMachine.Devices.VirtualPci[].Functions[].VirtualFunction",
	"VirtualMachine.StopOnReset",
	"VirtualMachine.StorageQoS",
	"VirtualMachine.StorageQoS.BandwidthMaximum",
	"VirtualMachine.StorageQoS.IopsMaximum",
}

// The members that mean nothing on Linux and are accepted, with why.
var meaningless = map[string]string{
	"VirtualMachine.Devices.EnhancedModeVideo": "a remote desktop that Windows guests serve, beside the screen; where only the owner of the system can see that, nobody needs leave for it",
	"VirtualMachine.Devices.HvSocket":          "who on the host may open sockets is a Windows security descriptor; here only the owner of the system can reach its sockets",
}

// windowsShares are what only Windows guests have.
const windowsShares = "VirtualMachine.Devices.VirtualSmb"

// checkMembers refuses the first member, in alphabetical order, that is on
// neither list; and a Windows guest as what it is, whatever member comes first.
func checkMembers(names []string) error {
	if slices.Contains(names, windowsShares) {
		return fmt.Errorf("%w: Windows guests do not run on QEMU: member %s", hcs.ErrNotSupported, windowsShares)
	}
	for _, n := range names {
		if _, ok := meaningless[n]; ok || slices.Contains(honoured, n) || strings.HasPrefix(n, "VirtualMachine.Devices.HvSocket.") {
			continue
		}
		return fmt.Errorf("%w: member %s", hcs.ErrNotSupported, n)
	}
	return nil
}
