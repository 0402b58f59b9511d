package hcsschema

// ComputeSystem is the document that a system is created from: a utility VM
// (VirtualMachine), a container on the host (Container), or a container in a
// running utility VM (HostedSystem with HostingSystemId).
type ComputeSystem struct {
	Owner         string   `json:"Owner,omitempty"`
	SchemaVersion *Version `json:"SchemaVersion,omitempty"`
	// HostingSystemId names the utility VM that HostedSystem is made in.
	HostingSystemId string `json:"HostingSystemId,omitempty"`
	// HostedSystem is what the guest gets: a [HostedSystem] for a Windows
	// guest, the OCI form for a Linux one.
	HostedSystem   any             `json:"HostedSystem,omitempty"`
	Container      *Container      `json:"Container,omitempty"`
	VirtualMachine *VirtualMachine `json:"VirtualMachine,omitempty"`
	// ShouldTerminateOnLastHandleClosed ends the system when its owner dies.
	ShouldTerminateOnLastHandleClosed bool `json:"ShouldTerminateOnLastHandleClosed,omitempty"`
}

// Version is a schema version.
type Version struct {
	Major int32 `json:"Major,omitempty"`
	Minor int32 `json:"Minor,omitempty"`
}

// SchemaV1 returns a new version 1.0, of containers on the host only.
func SchemaV1() *Version { return &Version{Major: 1} }

// SchemaV21 returns a new version 2.1, of utility VMs and all that they host.
func SchemaV21() *Version { return &Version{Major: 2, Minor: 1} }

// VirtualMachine describes a utility VM.
type VirtualMachine struct {
	// StopOnReset makes a reboot or a panic of the guest end the VM.
	StopOnReset     bool             `json:"StopOnReset,omitempty"`
	Chipset         *Chipset         `json:"Chipset,omitempty"`
	ComputeTopology *Topology        `json:"ComputeTopology,omitempty"`
	Devices         *Devices         `json:"Devices,omitempty"`
	GuestState      *GuestState      `json:"GuestState,omitempty"`
	RestoreState    *RestoreState    `json:"RestoreState,omitempty"`
	RegistryChanges *RegistryChanges `json:"RegistryChanges,omitempty"`
	StorageQoS      *StorageQoS      `json:"StorageQoS,omitempty"`
	// GuestConnection asks the service itself to speak to the guest. Without
	// it the owner of the VM does (the external connection).
	GuestConnection *GuestConnection `json:"GuestConnection,omitempty"`
}

// GuestConnection tells how the service reaches the guest agent. Both false
// is the form for a Windows guest.
type GuestConnection struct {
	UseVsock            bool `json:"UseVsock,omitempty"`
	UseConnectedSuspend bool `json:"UseConnectedSuspend,omitempty"`
}

// GuestState names the files that hold firmware and device state.
type GuestState struct {
	GuestStateFilePath   string `json:"GuestStateFilePath,omitempty"`
	RuntimeStateFilePath string `json:"RuntimeStateFilePath,omitempty"`
	ForceTransientState  bool   `json:"ForceTransientState,omitempty"`
}

// RestoreState starts the VM from a saved state or from a template.
type RestoreState struct {
	SaveStateFilePath string `json:"SaveStateFilePath,omitempty"`
	TemplateSystemId  string `json:"TemplateSystemId,omitempty"`
}

// SaveOptions says where and how the state of a system is saved.
type SaveOptions struct {
	SaveType          string `json:"SaveType,omitempty"`
	SaveStateFilePath string `json:"SaveStateFilePath,omitempty"`
}

// StorageQoS limits the I/O of all disks of a system together. Zero is no
// limit.
type StorageQoS struct {
	IopsMaximum int32 `json:"IopsMaximum,omitempty"`
	// BandwidthMaximum is in bytes a second.
	BandwidthMaximum int32 `json:"BandwidthMaximum,omitempty"`
}

// RegistryChanges edits the registry of a Windows guest before it boots.
type RegistryChanges struct {
	AddValues  []RegistryValue `json:"AddValues,omitempty"`
	DeleteKeys []RegistryKey   `json:"DeleteKeys,omitempty"`
}

// RegistryKey names a key.
type RegistryKey struct {
	Hive     string `json:"Hive,omitempty"`
	Name     string `json:"Name,omitempty"`
	Volatile bool   `json:"Volatile,omitempty"`
}

// RegistryValue is a value of a key; Type tells which of the value members
// counts.
type RegistryValue struct {
	Key         *RegistryKey `json:"Key,omitempty"`
	Name        string       `json:"Name,omitempty"`
	Type        string       `json:"Type,omitempty"`
	StringValue string       `json:"StringValue,omitempty"`
	BinaryValue string       `json:"BinaryValue,omitempty"`
	DWordValue  int32        `json:"DWordValue,omitempty"`
	QWordValue  int64        `json:"QWordValue,omitempty"`
	CustomType  int32        `json:"CustomType,omitempty"`
}
