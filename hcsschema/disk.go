package hcsschema

// Values of [Attachment] Type.
const (
	AttachmentVirtualDisk = "VirtualDisk" // a disk image
	AttachmentPassThru    = "PassThru"    // a disk of the host
)

// Values of [VirtualPMemDevice] ImageFormat.
const (
	ImageFormatVhd1 = "Vhd1"
	ImageFormatVhdx = "Vhdx"
)

// Scsi is a SCSI controller and what is attached to it when the VM is made.
type Scsi struct {
	// Attachments has the decimal LUN as key.
	Attachments map[string]Attachment `json:"Attachments,omitempty"`
}

// Attachment is a disk on a SCSI controller.
type Attachment struct {
	Type                         string `json:"Type,omitempty"`
	Path                         string `json:"Path,omitempty"`
	IgnoreFlushes                bool   `json:"IgnoreFlushes,omitempty"`
	CachingMode                  string `json:"CachingMode,omitempty"`
	NoWriteHardening             bool   `json:"NoWriteHardening,omitempty"`
	DisableExpansionOptimization bool   `json:"DisableExpansionOptimization,omitempty"`
	IgnoreRelativeLocator        bool   `json:"IgnoreRelativeLocator,omitempty"`
	CaptureIoAttributionContext  bool   `json:"CaptureIoAttributionContext,omitempty"`
	ReadOnly                     bool   `json:"ReadOnly,omitempty"`
}

// VirtualPMemController is the persistent memory of a VM: how many devices
// there can be, how large each, and those that are there from the start.
type VirtualPMemController struct {
	// Devices has the decimal device number as key.
	Devices          map[string]VirtualPMemDevice `json:"Devices,omitempty"`
	MaximumCount     uint32                       `json:"MaximumCount,omitempty"`
	MaximumSizeBytes uint64                       `json:"MaximumSizeBytes,omitempty"`
	Backing          string                       `json:"Backing,omitempty"`
}

// VirtualPMemDevice is a disk image seen by the guest as persistent memory.
type VirtualPMemDevice struct {
	HostPath    string `json:"HostPath,omitempty"`
	ReadOnly    bool   `json:"ReadOnly,omitempty"`
	ImageFormat string `json:"ImageFormat,omitempty"`
}
