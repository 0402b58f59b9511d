package uvm

import (
	"path/filepath"

	"github.com/byrevm/byre/hcsschema"
)

// utilityVM is the folder of a layer that a Windows utility VM boots from.
const utilityVM = "UtilityVM"

// mappedFileMB is the room of a Windows guest for files of its shares that it
// maps, in MiB.
const mappedFileMB = 1024

// document describes the VM (spec §2.6). image is the folder that it boots
// from, scratch the disk that it writes to.
func (o *OptionsWCOW) document(image, scratch string) *hcsschema.ComputeSystem {
	memory := o.memory()
	memory.EnableHotHint = o.AllowOvercommit // not with physical memory
	doc := o.system(
		&hcsschema.Chipset{Uefi: &hcsschema.Uefi{BootThis: &hcsschema.UefiBootEntry{
			DeviceType: hcsschema.DeviceTypeVmbFs,
			DevicePath: `\EFI\Microsoft\Boot\bootmgfw.efi`,
		}}},
		memory,
		&hcsschema.Devices{
			HvSocket: hvSocket(),
			Scsi: map[string]hcsschema.Scsi{"0": {Attachments: map[string]hcsschema.Attachment{
				"0": {Type: hcsschema.AttachmentVirtualDisk, Path: scratch},
			}}},
			VirtualSmb: &hcsschema.VirtualSmb{
				DirectFileMappingInMB: mappedFileMB,
				Shares: []hcsschema.VirtualSmbShare{{
					Name: "os",
					Path: filepath.Join(image, "Files"),
					Options: &hcsschema.VirtualSmbShareOptions{
						ReadOnly:            true,
						ShareRead:           true,
						CacheIo:             true,
						PseudoOplocks:       true,
						TakeBackupPrivilege: true,
					},
				}},
			},
		})
	if !o.ExternalGuestConnection {
		doc.VirtualMachine.GuestConnection = &hcsschema.GuestConnection{}
	}
	return doc
}
