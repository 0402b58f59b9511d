package uvm

import (
	"path/filepath"
	"strconv"
	"strings"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/internal/place"
)

// bindDescriptor lets SYSTEM and administrators listen for the guest, as this
// package does.
const bindDescriptor = "D:P(A;;FA;;;SY)(A;;FA;;;BA)"

// document describes the VM (spec §2.2).
func (o *OptionsLCOW) document() *hcsschema.ComputeSystem {
	memory := o.memory()
	memory.EnableColdDiscardHint = o.EnableColdDiscardHint
	d := &hcsschema.Devices{
		HvSocket: hvSocket(),
		Plan9:    &hcsschema.Plan9{},
	}
	if n := o.scsiControllers(); n > 0 {
		d.Scsi = make(map[string]hcsschema.Scsi, n)
		for i := range n {
			d.Scsi[strconv.Itoa(i)] = hcsschema.Scsi{}
		}
	}
	if o.VPMemDeviceCount > 0 {
		d.VirtualPMem = &hcsschema.VirtualPMemController{
			MaximumCount:     o.VPMemDeviceCount,
			MaximumSizeBytes: o.VPMemSizeBytes,
		}
		if o.PreferredRootFSType == PreferredRootFSTypeVHD {
			d.VirtualPMem.Devices = map[string]hcsschema.VirtualPMemDevice{"0": {
				HostPath:    o.rootFSPath(),
				ReadOnly:    true,
				ImageFormat: imageFormat(o.RootFSFile),
			}}
		}
	}
	if o.ConsolePipe != "" {
		d.ComPorts = map[string]hcsschema.ComPort{"0": {NamedPipe: o.ConsolePipe}}
	}
	if o.EnableGraphicsConsole {
		d.Keyboard = &hcsschema.Keyboard{}
		d.EnhancedModeVideo = &hcsschema.EnhancedModeVideo{}
		d.VideoMonitor = &hcsschema.VideoMonitor{}
	}
	doc := o.system(o.chipset(), memory, d)
	if o.UseGuestConnection && !o.ExternalGuestConnection {
		doc.VirtualMachine.GuestConnection = &hcsschema.GuestConnection{UseVsock: true, UseConnectedSuspend: true}
	}
	return doc
}

// system is what both kinds of guest have in common.
func (o *Options) system(c *hcsschema.Chipset, m *hcsschema.Memory2, d *hcsschema.Devices) *hcsschema.ComputeSystem {
	vm := &hcsschema.VirtualMachine{
		StopOnReset: true,
		Chipset:     c,
		ComputeTopology: &hcsschema.Topology{
			Memory: m,
			Processor: &hcsschema.Processor2{
				Count:  o.ProcessorCount,
				Limit:  o.ProcessorLimit,
				Weight: o.ProcessorWeight,
			},
		},
		Devices: d,
	}
	if o.StorageQoSIopsMaximum > 0 || o.StorageQoSBandwidthMaximum > 0 {
		vm.StorageQoS = &hcsschema.StorageQoS{
			IopsMaximum:      o.StorageQoSIopsMaximum,
			BandwidthMaximum: o.StorageQoSBandwidthMaximum,
		}
	}
	return &hcsschema.ComputeSystem{
		Owner:                             o.Owner,
		SchemaVersion:                     hcsschema.SchemaV21(),
		VirtualMachine:                    vm,
		ShouldTerminateOnLastHandleClosed: true,
	}
}

func (o *Options) memory() *hcsschema.Memory2 {
	return &hcsschema.Memory2{
		SizeInMB:             o.MemorySizeInMB,
		AllowOvercommit:      o.AllowOvercommit,
		EnableDeferredCommit: o.EnableDeferredCommit,
		LowMmioGapInMB:       o.LowMMIOGapInMB,
		HighMmioBaseInMB:     o.HighMMIOBaseInMB,
		HighMmioGapInMB:      o.HighMMIOGapInMB,
	}
}

// chipset says how the kernel is booted (spec §2.4).
func (o *OptionsLCOW) chipset() *hcsschema.Chipset {
	if !o.KernelDirect {
		return &hcsschema.Chipset{Uefi: &hcsschema.Uefi{BootThis: &hcsschema.UefiBootEntry{
			DeviceType:    hcsschema.DeviceTypeVmbFs,
			DevicePath:    `\` + o.KernelFile,
			VmbFsRootPath: o.BootFilesPath,
			OptionalData:  o.commandLine(),
		}}}
	}
	direct := &hcsschema.LinuxKernelDirect{KernelFilePath: o.kernelPath(), KernelCmdLine: o.commandLine()}
	if o.PreferredRootFSType == PreferredRootFSTypeInitRd {
		direct.InitRdPath = o.rootFSPath()
	}
	return &hcsschema.Chipset{LinuxKernelDirect: direct}
}

// scsiControllers returns how many SCSI controllers the VM has.
func (o *OptionsLCOW) scsiControllers() int {
	if o.AllSCSIControllers {
		return place.MaxSCSIControllers
	}
	return int(o.SCSIControllerCount)
}

func hvSocket() *hcsschema.HvSocket2 {
	return &hcsschema.HvSocket2{HvSocketConfig: &hcsschema.HvSocketSystemConfig{
		DefaultBindSecurityDescriptor: bindDescriptor,
	}}
}

// imageFormat tells the format of a virtual disk by its name (spec §6 B5d).
func imageFormat(name string) string {
	if strings.EqualFold(filepath.Ext(name), ".vhdx") {
		return hcsschema.ImageFormatVhdx
	}
	return hcsschema.ImageFormatVhd1
}
