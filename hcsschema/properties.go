package hcsschema

import (
	"time"

	cgroups "github.com/containerd/cgroups/v3/cgroup1/stats"
)

// A PropertyType names a group of properties that a query asks for.
type PropertyType string

// The property types.
const (
	PTMemory                      PropertyType = "Memory"
	PTGuestMemory                 PropertyType = "GuestMemory"
	PTStatistics                  PropertyType = "Statistics"
	PTProcessList                 PropertyType = "ProcessList"
	PTTerminateOnLastHandleClosed PropertyType = "TerminateOnLastHandleClosed"
	PTSharedMemoryRegion          PropertyType = "SharedMemoryRegion"
	PTGuestConnection             PropertyType = "GuestConnection"
	PTICHeartbeatStatus           PropertyType = "ICHeartbeatStatus"
)

// PropertyQuery asks for properties of a system. Without types the answer has
// the basic ones: Id, SystemType, Owner, RuntimeId, State.
type PropertyQuery struct {
	PropertyTypes []PropertyType `json:"PropertyTypes,omitempty"`
}

// Properties answers a [PropertyQuery]. Members that were not asked for are
// zero.
type Properties struct {
	Id                          string                   `json:"Id,omitempty"`
	SystemType                  string                   `json:"SystemType,omitempty"`
	RuntimeOsType               string                   `json:"RuntimeOsType,omitempty"`
	Name                        string                   `json:"Name,omitempty"`
	Owner                       string                   `json:"Owner,omitempty"`
	RuntimeId                   string                   `json:"RuntimeId,omitempty"`
	RuntimeTemplateId           string                   `json:"RuntimeTemplateId,omitempty"`
	State                       string                   `json:"State,omitempty"`
	Stopped                     bool                     `json:"Stopped,omitempty"`
	ExitType                    string                   `json:"ExitType,omitempty"`
	Memory                      *MemoryInformationForVm  `json:"Memory,omitempty"`
	Statistics                  *Statistics              `json:"Statistics,omitempty"`
	ProcessList                 []ProcessDetails         `json:"ProcessList,omitempty"`
	TerminateOnLastHandleClosed bool                     `json:"TerminateOnLastHandleClosed,omitempty"`
	HostingSystemId             string                   `json:"HostingSystemId,omitempty"`
	SharedMemoryRegionInfo      []SharedMemoryRegionInfo `json:"SharedMemoryRegionInfo,omitempty"`
	GuestConnectionInfo         *GuestConnectionInfo     `json:"GuestConnectionInfo,omitempty"`
	// LCOWMetrics is what a Linux guest answers PTStatistics with: the
	// metrics of cgroup version 1, also where the guest has version 2.
	LCOWMetrics *cgroups.Metrics `json:"LCOWMetrics,omitempty"`
}

// GuestConnectionInfo is what the service learned when it connected to the
// guest.
type GuestConnectionInfo struct {
	SupportedSchemaVersions []Version `json:"SupportedSchemaVersions,omitempty"`
	ProtocolVersion         int32     `json:"ProtocolVersion,omitempty"`
	// GuestDefinedCapabilities is passed on as the guest sent it.
	GuestDefinedCapabilities any `json:"GuestDefinedCapabilities,omitempty"`
}

// SharedMemoryRegionInfo tells where in the guest a memory section lies.
type SharedMemoryRegionInfo struct {
	SectionName          string `json:"SectionName,omitempty"`
	GuestPhysicalAddress uint64 `json:"GuestPhysicalAddress,omitempty"`
}

// Statistics is the use of a system since it started. Times are in units of
// 100 ns.
type Statistics struct {
	Timestamp          time.Time       `json:"Timestamp,omitzero"`
	ContainerStartTime time.Time       `json:"ContainerStartTime,omitzero"`
	Uptime100ns        uint64          `json:"Uptime100ns,omitempty"`
	Processor          *ProcessorStats `json:"Processor,omitempty"`
	Memory             *MemoryStats    `json:"Memory,omitempty"`
	Storage            *StorageStats   `json:"Storage,omitempty"`
}

// ProcessorStats is processor time, in units of 100 ns.
type ProcessorStats struct {
	TotalRuntime100ns  uint64 `json:"TotalRuntime100ns,omitempty"`
	RuntimeUser100ns   uint64 `json:"RuntimeUser100ns,omitempty"`
	RuntimeKernel100ns uint64 `json:"RuntimeKernel100ns,omitempty"`
}

// MemoryStats is memory use.
type MemoryStats struct {
	MemoryUsageCommitBytes            uint64 `json:"MemoryUsageCommitBytes,omitempty"`
	MemoryUsageCommitPeakBytes        uint64 `json:"MemoryUsageCommitPeakBytes,omitempty"`
	MemoryUsagePrivateWorkingSetBytes uint64 `json:"MemoryUsagePrivateWorkingSetBytes,omitempty"`
}

// StorageStats is disk I/O; a normalized count has one per 8 KiB.
type StorageStats struct {
	ReadCountNormalized  uint64 `json:"ReadCountNormalized,omitempty"`
	ReadSizeBytes        uint64 `json:"ReadSizeBytes,omitempty"`
	WriteCountNormalized uint64 `json:"WriteCountNormalized,omitempty"`
	WriteSizeBytes       uint64 `json:"WriteSizeBytes,omitempty"`
}

// MemoryInformationForVm is the memory of a VM as the hypervisor sees it.
type MemoryInformationForVm struct {
	VirtualNodeCount     uint32            `json:"VirtualNodeCount,omitempty"`
	VirtualMachineMemory *VmMemory         `json:"VirtualMachineMemory,omitempty"`
	VirtualNodes         []VirtualNodeInfo `json:"VirtualNodes,omitempty"`
}

// VmMemory counts pages of 4 KiB (ReservedMemory, AssignedMemory).
type VmMemory struct {
	AvailableMemory       int32  `json:"AvailableMemory,omitempty"`
	AvailableMemoryBuffer int32  `json:"AvailableMemoryBuffer,omitempty"`
	ReservedMemory        uint64 `json:"ReservedMemory,omitempty"`
	AssignedMemory        uint64 `json:"AssignedMemory,omitempty"`
	SlpActive             bool   `json:"SlpActive,omitempty"`
	BalancingEnabled      bool   `json:"BalancingEnabled,omitempty"`
	DmOperationInProgress bool   `json:"DmOperationInProgress,omitempty"`
}

// VirtualNodeInfo is a NUMA node of a VM.
type VirtualNodeInfo struct {
	VirtualNodeIndex      int32  `json:"VirtualNodeIndex,omitempty"`
	PhysicalNodeNumber    int32  `json:"PhysicalNodeNumber,omitempty"`
	VirtualProcessorCount int32  `json:"VirtualProcessorCount,omitempty"`
	MemoryUsageInPages    uint64 `json:"MemoryUsageInPages,omitempty"`
}
