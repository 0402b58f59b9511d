package schema1

// SystemTypeContainer is the only [ContainerConfig] SystemType.
const SystemTypeContainer = "Container"

// ContainerConfig describes a Windows container.
type ContainerConfig struct {
	SystemType              string
	Name                    string
	Owner                   string `json:",omitempty"`
	VolumePath              string `json:",omitempty"`
	IgnoreFlushesDuringBoot bool   `json:",omitempty"`
	LayerFolderPath         string `json:",omitempty"`
	// Layers are the read-only layers, top-most first.
	Layers []Layer
	// Credentials is a secret: do not log it.
	Credentials                 string              `json:",omitempty"`
	ProcessorCount              uint32              `json:",omitempty"`
	ProcessorWeight             uint64              `json:",omitempty"`
	ProcessorMaximum            int64               `json:",omitempty"`
	StorageIOPSMaximum          uint64              `json:",omitempty"`
	StorageBandwidthMaximum     uint64              `json:",omitempty"`
	StorageSandboxSize          uint64              `json:",omitempty"`
	MemoryMaximumInMB           int64               `json:",omitempty"`
	HostName                    string              `json:",omitempty"`
	MappedDirectories           []MappedDir         `json:",omitempty"`
	MappedPipes                 []MappedPipe        `json:",omitempty"`
	HvPartition                 bool                // a container in its own VM
	NetworkSharedContainerName  string              `json:",omitempty"`
	EndpointList                []string            `json:",omitempty"`
	HvRuntime                   *HvRuntime          `json:",omitempty"`
	Servicing                   bool                `json:",omitempty"`
	AllowUnqualifiedDNSQuery    bool                `json:",omitempty"`
	DNSSearchList               string              `json:",omitempty"`
	ContainerType               string              `json:",omitempty"`
	TerminateOnLastHandleClosed bool                `json:",omitempty"`
	MappedVirtualDisks          []MappedVirtualDisk `json:",omitempty"`
	AssignedDevices             []AssignedDevice    `json:",omitempty"`
}

// Layer is a read-only layer.
type Layer struct {
	ID   string
	Path string
}

// MappedDir is a folder of the host seen in a container.
type MappedDir struct {
	HostPath          string
	ContainerPath     string
	ReadOnly          bool
	BandwidthMaximum  uint64
	IOPSMaximum       uint64
	CreateInUtilityVM bool
	LinuxMetadata     bool `json:",omitempty"`
}

// MappedPipe is a named pipe of the host seen in a container.
type MappedPipe struct {
	HostPath          string
	ContainerPipeName string
}

// HvRuntime is the utility VM of a container that has its own.
type HvRuntime struct {
	ImagePath           string `json:",omitempty"`
	SkipTemplate        bool   `json:",omitempty"`
	LinuxInitrdFile     string `json:",omitempty"`
	LinuxKernelFile     string `json:",omitempty"`
	LinuxBootParameters string `json:",omitempty"`
	BootSource          string `json:",omitempty"`
	WritableBootSource  bool   `json:",omitempty"`
}

// MappedVirtualDisk is a disk image of the host mounted in a container.
type MappedVirtualDisk struct {
	HostPath          string `json:",omitempty"`
	ContainerPath     string
	CreateInUtilityVM bool   `json:",omitempty"`
	ReadOnly          bool   `json:",omitempty"`
	Cache             string `json:",omitempty"`
	AttachOnly        bool   `json:",omitempty"`
}

// AssignedDevice is a class of devices that a container may use.
type AssignedDevice struct {
	InterfaceClassGUID string `json:"InterfaceClassGuid,omitempty"`
}
