package hcsschema

// HostedSystem is a Windows container in a utility VM.
type HostedSystem struct {
	SchemaVersion *Version   `json:"SchemaVersion,omitempty"`
	Container     *Container `json:"Container,omitempty"`
}

// LinuxHostedSystem is a Linux container in a utility VM. None of its members
// is ever left out, but for ScratchDirPath, which later hosts send.
type LinuxHostedSystem struct {
	SchemaVersion *Version `json:"SchemaVersion"`
	// OciBundlePath is the folder in the guest that the agent writes the
	// bundle to.
	OciBundlePath string `json:"OciBundlePath"`
	// OciSpecification is an OCI runtime specification.
	OciSpecification any    `json:"OciSpecification"`
	ScratchDirPath   string `json:"ScratchDirPath,omitempty"`
}

// Container is a Windows container.
type Container struct {
	GuestOs                  *GuestOs                       `json:"GuestOs,omitempty"`
	Storage                  *Storage                       `json:"Storage,omitempty"`
	MappedDirectories        []MappedDirectory              `json:"MappedDirectories,omitempty"`
	MappedPipes              []MappedPipe                   `json:"MappedPipes,omitempty"`
	Memory                   *Memory                        `json:"Memory,omitempty"`
	Processor                *Processor                     `json:"Processor,omitempty"`
	Networking               *Networking                    `json:"Networking,omitempty"`
	HvSocket                 *HvSocket                      `json:"HvSocket,omitempty"`
	ContainerCredentialGuard *ContainerCredentialGuardState `json:"ContainerCredentialGuard,omitempty"`
	RegistryChanges          *RegistryChanges               `json:"RegistryChanges,omitempty"`
	AssignedDevices          []Device                       `json:"AssignedDevices,omitempty"`
}

// GuestOs is the operating system's settings in a container.
type GuestOs struct {
	HostName string `json:"HostName,omitempty"`
}

// Memory is a container's memory limit.
type Memory struct {
	SizeInMB int32 `json:"SizeInMB,omitempty"`
}

// Processor is a container's processor limits.
type Processor struct {
	Count int32 `json:"Count,omitempty"`
	// Maximum is in 1/100 of a percent of all processors.
	Maximum int32 `json:"Maximum,omitempty"`
	Weight  int32 `json:"Weight,omitempty"`
}

// Storage is a container's file system.
type Storage struct {
	// Layers are the read-only layers, top-most first.
	Layers []Layer `json:"Layers,omitempty"`
	// Path is the mounted container root.
	Path string      `json:"Path,omitempty"`
	QoS  *StorageQoS `json:"QoS,omitempty"`
}

// Layer is a read-only layer. Linux guests are given Path only.
type Layer struct {
	Id       string `json:"Id,omitempty"`
	Path     string `json:"Path,omitempty"`
	PathType string `json:"PathType,omitempty"`
	Cache    string `json:"Cache,omitempty"`
}

// MappedDirectory is a folder seen in a container.
type MappedDirectory struct {
	HostPath      string `json:"HostPath,omitempty"`
	HostPathType  string `json:"HostPathType,omitempty"`
	ContainerPath string `json:"ContainerPath,omitempty"`
	ReadOnly      bool   `json:"ReadOnly,omitempty"`
}

// MappedPipe is a named pipe seen in a container.
type MappedPipe struct {
	ContainerPipeName string `json:"ContainerPipeName,omitempty"`
	HostPath          string `json:"HostPath,omitempty"`
	HostPathType      string `json:"HostPathType,omitempty"`
}

// Networking connects a container to a network namespace.
type Networking struct {
	AllowUnqualifiedDnsQuery   bool   `json:"AllowUnqualifiedDnsQuery,omitempty"`
	DnsSearchList              string `json:"DnsSearchList,omitempty"`
	NetworkSharedContainerName string `json:"NetworkSharedContainerName,omitempty"`
	// Namespace is the id of a network namespace.
	Namespace       string   `json:"Namespace,omitempty"`
	NetworkAdapters []string `json:"NetworkAdapters,omitempty"`
}

// ContainerCredentialGuardState is a group managed service account. It holds
// a secret (Cookie): do not log it.
type ContainerCredentialGuardState struct {
	Cookie         string `json:"Cookie,omitempty"`
	RpcEndpoint    string `json:"RpcEndpoint,omitempty"`
	Transport      string `json:"Transport,omitempty"`
	CredentialSpec string `json:"CredentialSpec,omitempty"`
}

// Device is a class of devices that a container may use.
type Device struct {
	InterfaceClassGuid string `json:"InterfaceClassGuid,omitempty"`
}
