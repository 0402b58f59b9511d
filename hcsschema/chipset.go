package hcsschema

// Chipset says how a VM boots: exactly one of Uefi and LinuxKernelDirect is
// set.
type Chipset struct {
	Uefi                  *Uefi              `json:"Uefi,omitempty"`
	IsNumLockDisabled     bool               `json:"IsNumLockDisabled,omitempty"`
	BaseBoardSerialNumber string             `json:"BaseBoardSerialNumber,omitempty"`
	ChassisSerialNumber   string             `json:"ChassisSerialNumber,omitempty"`
	ChassisAssetTag       string             `json:"ChassisAssetTag,omitempty"`
	UseUtc                bool               `json:"UseUtc,omitempty"`
	LinuxKernelDirect     *LinuxKernelDirect `json:"LinuxKernelDirect,omitempty"`
}

// Uefi boots through firmware.
type Uefi struct {
	EnableDebugger       bool           `json:"EnableDebugger,omitempty"`
	SecureBootTemplateId string         `json:"SecureBootTemplateId,omitempty"`
	BootThis             *UefiBootEntry `json:"BootThis,omitempty"`
	Console              string         `json:"Console,omitempty"`
}

// DeviceTypeVmbFs is the [UefiBootEntry] device type of a folder of the host.
const DeviceTypeVmbFs = "VmbFs"

// UefiBootEntry is the program that the firmware starts.
type UefiBootEntry struct {
	DeviceType string `json:"DeviceType,omitempty"`
	// DevicePath is the program, relative to the device's root and with a
	// leading backslash.
	DevicePath string `json:"DevicePath,omitempty"`
	DiskNumber int32  `json:"DiskNumber,omitempty"`
	// OptionalData is the program's command line.
	OptionalData string `json:"OptionalData,omitempty"`
	// VmbFsRootPath is the folder of the host that is the device's root.
	VmbFsRootPath string `json:"VmbFsRootPath,omitempty"`
}

// LinuxKernelDirect boots a Linux kernel without firmware. The paths are the
// host's; InitRdPath may be empty.
type LinuxKernelDirect struct {
	KernelFilePath string `json:"KernelFilePath,omitempty"`
	InitRdPath     string `json:"InitRdPath,omitempty"`
	KernelCmdLine  string `json:"KernelCmdLine,omitempty"`
}
