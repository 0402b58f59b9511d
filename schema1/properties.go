package schema1

import (
	"time"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcsschema"
)

// A PropertyType names a group of properties that a query asks for.
type PropertyType string

// The property types.
const (
	PropertyTypeStatistics        PropertyType = "Statistics"
	PropertyTypeProcessList       PropertyType = "ProcessList"
	PropertyTypeMappedVirtualDisk PropertyType = "MappedVirtualDisk"
	PropertyTypeGuestConnection   PropertyType = "GuestConnection"
)

// PropertyQuery asks for properties of a system. Without types the answer has
// the basic ones.
type PropertyQuery struct {
	PropertyTypes []PropertyType `json:",omitempty"`
}

// ComputeSystemQuery asks for systems. An empty member does not restrict the
// answer.
type ComputeSystemQuery struct {
	IDs    []string `json:"Ids,omitempty"`
	Types  []string `json:",omitempty"`
	Names  []string `json:",omitempty"`
	Owners []string `json:",omitempty"`
}

// ContainerProperties answers a [PropertyQuery].
type ContainerProperties struct {
	ID                           string `json:"Id"`
	State                        string
	Name                         string
	SystemType                   string
	RuntimeOSType                string `json:"RuntimeOsType,omitempty"`
	Owner                        string
	SiloGUID                     string                              `json:"SiloGuid,omitempty"`
	RuntimeID                    guid.GUID                           `json:"RuntimeId"`
	IsRuntimeTemplate            bool                                `json:",omitempty"`
	RuntimeImagePath             string                              `json:",omitempty"`
	Stopped                      bool                                `json:",omitempty"`
	ExitType                     string                              `json:",omitempty"`
	AreUpdatesPending            bool                                `json:",omitempty"`
	ObRoot                       string                              `json:",omitempty"`
	Statistics                   Statistics                          // with PropertyTypeStatistics
	ProcessList                  []ProcessListItem                   `json:",omitempty"`
	MappedVirtualDiskControllers map[int]MappedVirtualDiskController `json:",omitempty"`
	GuestConnectionInfo          GuestConnectionInfo                 // with PropertyTypeGuestConnection
}

// MappedVirtualDiskController is a SCSI controller; the key is the LUN.
type MappedVirtualDiskController struct {
	MappedVirtualDisks map[int]MappedVirtualDisk `json:",omitempty"`
}

// GuestConnectionInfo is what is known of the guest agent.
type GuestConnectionInfo struct {
	SupportedSchemaVersions  []hcsschema.Version `json:",omitempty"`
	ProtocolVersion          uint32              `json:",omitempty"`
	GuestDefinedCapabilities GuestDefinedCapabilities
}

// GuestDefinedCapabilities is what the guest agent says that it can do beyond
// the protocol's minimum.
type GuestDefinedCapabilities struct {
	NamespaceAddRequestSupported  bool `json:",omitempty"`
	SignalProcessSupported        bool `json:",omitempty"`
	DumpStacksSupported           bool `json:",omitempty"`
	DeleteContainerStateSupported bool `json:",omitempty"`
	// MappedPipeSupported is byre's: the agent takes [hcsschema.LCOWMappedPipe].
	MappedPipeSupported bool `json:",omitempty"`
}

// ProcessListItem is a process of a system. A Linux guest fills ProcessId
// only.
type ProcessListItem struct {
	CreateTimestamp              time.Time `json:",omitzero"`
	ImageName                    string    `json:",omitempty"`
	KernelTime100ns              uint64    `json:",omitempty"`
	MemoryCommitBytes            uint64    `json:",omitempty"`
	MemoryWorkingSetPrivateBytes uint64    `json:",omitempty"`
	MemoryWorkingSetSharedBytes  uint64    `json:",omitempty"`
	ProcessId                    uint32    `json:",omitempty"`
	UserTime100ns                uint64    `json:",omitempty"`
}
