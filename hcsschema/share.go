package hcsschema

// Bits of [Plan9Share] Flags.
const (
	Plan9FlagReadOnly           int32 = 0x1
	Plan9FlagLinuxMetadata      int32 = 0x4
	Plan9FlagCaseSensitive      int32 = 0x8
	Plan9FlagRestrictFileAccess int32 = 0x80
)

// Plan9 is the 9p server of a VM and its shares.
type Plan9 struct {
	Shares []Plan9Share `json:"Shares,omitempty"`
}

// Plan9Share is a folder of the host that a Linux guest can mount.
type Plan9Share struct {
	Name string `json:"Name,omitempty"`
	// AccessName is the attach name (aname) that the guest mounts it by.
	AccessName           string `json:"AccessName,omitempty"`
	Path                 string `json:"Path,omitempty"`
	Port                 int32  `json:"Port,omitempty"`
	Flags                int32  `json:"Flags,omitempty"`
	ReadOnly             bool   `json:"ReadOnly,omitempty"`
	UseShareRootIdentity bool   `json:"UseShareRootIdentity,omitempty"`
	// AllowedFiles are the only names that are seen when Flags has
	// Plan9FlagRestrictFileAccess.
	AllowedFiles []string `json:"AllowedFiles,omitempty"`
}

// VirtualSmb is the SMB server of a VM and its shares.
type VirtualSmb struct {
	Shares                []VirtualSmbShare `json:"Shares,omitempty"`
	DirectFileMappingInMB int64             `json:"DirectFileMappingInMB,omitempty"`
}

// VirtualSmbShare is a folder of the host that a Windows guest can open.
type VirtualSmbShare struct {
	Name string `json:"Name,omitempty"`
	Path string `json:"Path,omitempty"`
	// AllowedFiles are the only files that are seen when
	// Options.RestrictFileAccess is set.
	AllowedFiles []string                `json:"AllowedFiles,omitempty"`
	Options      *VirtualSmbShareOptions `json:"Options,omitempty"`
}

// VirtualSmbShareOptions are the switches of an SMB share.
type VirtualSmbShareOptions struct {
	ReadOnly             bool `json:"ReadOnly,omitempty"`
	ShareRead            bool `json:"ShareRead,omitempty"`
	CacheIo              bool `json:"CacheIo,omitempty"`
	NoOplocks            bool `json:"NoOplocks,omitempty"`
	TakeBackupPrivilege  bool `json:"TakeBackupPrivilege,omitempty"`
	UseShareRootIdentity bool `json:"UseShareRootIdentity,omitempty"`
	NoDirectmap          bool `json:"NoDirectmap,omitempty"`
	NoLocks              bool `json:"NoLocks,omitempty"`
	NoDirnotify          bool `json:"NoDirnotify,omitempty"`
	VmSharedMemory       bool `json:"VmSharedMemory,omitempty"`
	// RestrictFileAccess shows AllowedFiles only.
	RestrictFileAccess  bool `json:"RestrictFileAccess,omitempty"`
	ForceLevelIIOplocks bool `json:"ForceLevelIIOplocks,omitempty"`
	ReparseBaseLayer    bool `json:"ReparseBaseLayer,omitempty"`
	PseudoOplocks       bool `json:"PseudoOplocks,omitempty"`
	NonCacheIo          bool `json:"NonCacheIo,omitempty"`
	PseudoDirnotify     bool `json:"PseudoDirnotify,omitempty"`
	// SingleFileMapping says that the share is there for single files.
	SingleFileMapping bool `json:"SingleFileMapping,omitempty"`
}

// PipeSocket are the settings of a mapped pipe of the host that is a Unix
// socket: the guest reaches it at the host's vsock Port. It is byre's; named
// pipes have no settings.
type PipeSocket struct {
	Port uint32 `json:"Port,omitempty"`
}
