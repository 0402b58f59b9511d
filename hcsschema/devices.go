package hcsschema

// Devices are the devices of a VM at its creation. Which of them can be added
// and removed later, and by which resource path, is package hcs's to say.
type Devices struct {
	// ComPorts has the keys "0" (COM1) and "1" (COM2).
	ComPorts map[string]ComPort `json:"ComPorts,omitempty"`
	// Scsi has a key per controller.
	Scsi        map[string]Scsi        `json:"Scsi,omitempty"`
	VirtualPMem *VirtualPMemController `json:"VirtualPMem,omitempty"`
	// NetworkAdapters has the GUID of a NIC as key.
	NetworkAdapters     map[string]NetworkAdapter   `json:"NetworkAdapters,omitempty"`
	VideoMonitor        *VideoMonitor               `json:"VideoMonitor,omitempty"`
	Keyboard            *Keyboard                   `json:"Keyboard,omitempty"`
	Mouse               *Mouse                      `json:"Mouse,omitempty"`
	HvSocket            *HvSocket2                  `json:"HvSocket,omitempty"`
	EnhancedModeVideo   *EnhancedModeVideo          `json:"EnhancedModeVideo,omitempty"`
	GuestCrashReporting *GuestCrashReporting        `json:"GuestCrashReporting,omitempty"`
	VirtualSmb          *VirtualSmb                 `json:"VirtualSmb,omitempty"`
	Plan9               *Plan9                      `json:"Plan9,omitempty"`
	Battery             *Battery                    `json:"Battery,omitempty"`
	FlexibleIov         map[string]FlexibleIoDevice `json:"FlexibleIov,omitempty"`
	SharedMemory        *SharedMemoryConfiguration  `json:"SharedMemory,omitempty"`
	// VirtualPci has the VMBus GUID of a device as key.
	VirtualPci map[string]VirtualPciDevice `json:"VirtualPci,omitempty"`
}

// ComPort is a serial port whose other end is a named pipe (or, on Linux, a
// socket) of the host.
type ComPort struct {
	NamedPipe           string `json:"NamedPipe,omitempty"`
	OptimizeForDebugger bool   `json:"OptimizeForDebugger,omitempty"`
}

// NetworkAdapter connects a NIC to an endpoint of the host's network.
type NetworkAdapter struct {
	EndpointId string `json:"EndpointId,omitempty"`
	MacAddress string `json:"MacAddress,omitempty"`
}

// VideoMonitor is a screen.
type VideoMonitor struct {
	HorizontalResolution int32                 `json:"HorizontalResolution,omitempty"`
	VerticalResolution   int32                 `json:"VerticalResolution,omitempty"`
	ConnectionOptions    *RdpConnectionOptions `json:"ConnectionOptions,omitempty"`
}

// EnhancedModeVideo is remote desktop served by the guest.
type EnhancedModeVideo struct {
	ConnectionOptions *RdpConnectionOptions `json:"ConnectionOptions,omitempty"`
}

// RdpConnectionOptions says who may see the screen and where.
type RdpConnectionOptions struct {
	AccessSids []string `json:"AccessSids,omitempty"`
	NamedPipe  string   `json:"NamedPipe,omitempty"`
}

// Keyboard is a keyboard; it has no settings.
type Keyboard struct{}

// Mouse is a mouse; it has no settings.
type Mouse struct{}

// Battery is a battery; it has no settings.
type Battery struct{}

// GuestCrashReporting says where a dump of a crashed guest goes.
type GuestCrashReporting struct {
	WindowsCrashSettings *WindowsCrashReporting `json:"WindowsCrashSettings,omitempty"`
}

// WindowsCrashReporting is the dump file of a Windows guest and its limit in
// bytes.
type WindowsCrashReporting struct {
	DumpFileName string `json:"DumpFileName,omitempty"`
	MaxDumpSize  int64  `json:"MaxDumpSize,omitempty"`
}

// VirtualPciDevice is a PCI device of the host that is given to a VM.
type VirtualPciDevice struct {
	Functions []VirtualPciFunction `json:"Functions,omitempty"`
}

// VirtualPciFunction is one function of a PCI device.
type VirtualPciFunction struct {
	// DeviceInstancePath is the device on the host.
	DeviceInstancePath string `json:"DeviceInstancePath,omitempty"`
	VirtualFunction    uint16 `json:"VirtualFunction,omitempty"`
}

// FlexibleIoDevice is a device whose emulator is a program of the host.
type FlexibleIoDevice struct {
	EmulatorId    string   `json:"EmulatorId,omitempty"`
	HostingModel  string   `json:"HostingModel,omitempty"`
	Configuration []string `json:"Configuration,omitempty"`
}

// SharedMemoryConfiguration is the memory sections of the host that a VM
// sees.
type SharedMemoryConfiguration struct {
	Regions []SharedMemoryRegion `json:"Regions,omitempty"`
}

// SharedMemoryRegion is a part of a memory section. StartOffset and Length
// are in bytes.
type SharedMemoryRegion struct {
	SectionName     string `json:"SectionName,omitempty"`
	StartOffset     uint64 `json:"StartOffset,omitempty"`
	Length          uint64 `json:"Length,omitempty"`
	AllowGuestWrite bool   `json:"AllowGuestWrite,omitempty"`
	HiddenFromGuest bool   `json:"HiddenFromGuest,omitempty"`
}
