package hcsschema

// A ResourceType says what a [GuestRequest] is about, and with the guest's
// operating system it gives the type of Settings. Guests compare it
// case-sensitively.
type ResourceType string

// The resource types, with the type of Settings for a Linux and for a Windows
// guest.
const (
	// ResourceMappedDirectory has LCOWMappedDirectory.
	ResourceMappedDirectory ResourceType = "MappedDirectory"
	// ResourceMappedVirtualDisk has LCOWMappedVirtualDisk or
	// WCOWMappedVirtualDisk.
	ResourceMappedVirtualDisk ResourceType = "MappedVirtualDisk"
	// ResourceNetwork has LCOWNetworkAdapter or NetworkModifyRequest.
	ResourceNetwork ResourceType = "Network"
	// ResourceNetworkNamespace has the HCN namespace; Windows only.
	ResourceNetworkNamespace ResourceType = "NetworkNamespace"
	// ResourceCombinedLayers has CombinedLayers.
	ResourceCombinedLayers ResourceType = "CombinedLayers"
	// ResourceVPMemDevice has LCOWMappedVPMemDevice.
	ResourceVPMemDevice ResourceType = "VPMemDevice"
	// ResourceVPCIDevice has LCOWMappedVPCIDevice, whatever the guest.
	ResourceVPCIDevice ResourceType = "VPCIDevice"
	// ResourceMappedPipe has LCOWMappedPipe. It is byre's; an agent says in its
	// capabilities that it knows it.
	ResourceMappedPipe ResourceType = "MappedPipe"
	// ResourceHvSocket has HvSocketAddress; Windows only.
	ResourceHvSocket ResourceType = "HvSocket"
)

// GuestRequest is the part of a change that the guest agent carries out.
// An agent takes an absent RequestType for Add. Settings is absent or an
// object, never null.
type GuestRequest struct {
	RequestType  RequestType  `json:"RequestType,omitempty"`
	ResourceType ResourceType `json:"ResourceType,omitempty"`
	Settings     any          `json:"Settings,omitempty"`
}

// CombinedLayers makes the union of Layers, with ScratchPath on top, at
// ContainerRootPath. The paths are the guest's. Without ScratchPath a Linux
// guest mounts the union read-only. Remove has ContainerRootPath only.
type CombinedLayers struct {
	ContainerRootPath string `json:"ContainerRootPath,omitempty"`
	// Layers are the read-only layers, top-most first.
	Layers      []Layer `json:"Layers,omitempty"`
	ScratchPath string  `json:"ScratchPath,omitempty"`
}

// LCOWMappedVirtualDisk mounts a SCSI disk in a Linux guest. Remove is sent
// also for a disk without MountPath: the guest then forgets the device.
type LCOWMappedVirtualDisk struct {
	MountPath  string `json:"MountPath,omitempty"`
	Lun        uint8  `json:"Lun,omitempty"`
	Controller uint8  `json:"Controller,omitempty"`
	ReadOnly   bool   `json:"ReadOnly,omitempty"`
}

// WCOWMappedVirtualDisk mounts a SCSI disk in a Windows guest.
type WCOWMappedVirtualDisk struct {
	ContainerPath string `json:"ContainerPath,omitempty"`
	Lun           int32  `json:"Lun,omitempty"`
}

// LCOWMappedDirectory mounts the [Plan9Share] with the AccessName ShareName,
// served on the host's vsock Port.
type LCOWMappedDirectory struct {
	MountPath string `json:"MountPath,omitempty"`
	Port      int32  `json:"Port,omitempty"`
	ShareName string `json:"ShareName,omitempty"`
	ReadOnly  bool   `json:"ReadOnly,omitempty"`
}

// LCOWMappedVPMemDevice mounts a persistent memory device, read-only.
type LCOWMappedVPMemDevice struct {
	DeviceNumber uint32 `json:"DeviceNumber,omitempty"`
	MountPath    string `json:"MountPath,omitempty"`
}

// LCOWMappedVPCIDevice makes the guest wait for a PCI device. VMBusGUID is
// the last element of its resource path.
type LCOWMappedVPCIDevice struct {
	VMBusGUID string `json:"VMBusGUID,omitempty"`
}

// LCOWMappedPipe makes a Unix socket at MountPath, with the mode and owner of
// the host's, and connects its clients to the host's vsock Port. LinkPath is
// where the guest's own programs find it too: the path on the host. Remove
// ends the connections.
type LCOWMappedPipe struct {
	MountPath string `json:"MountPath,omitempty"`
	LinkPath  string `json:"LinkPath,omitempty"`
	Port      uint32 `json:"Port,omitempty"`
	Mode      uint32 `json:"Mode,omitempty"`
	UserID    uint32 `json:"UserID,omitempty"`
	GroupID   uint32 `json:"GroupID,omitempty"`
}

// LCOWNetworkAdapter configures a NIC in a Linux guest. Without IPAddress and
// IPConfigs the guest asks DHCP.
//
// ID is the GUID of the NIC, the last element of its resource path.
// NamespaceID is that of the network namespace that it belongs to.
// DNSSuffix and DNSServerList are comma-separated lists.
//
// The members from IPConfigs on are of later hosts, which send them instead
// of IPAddress, PrefixLength and GatewayAddress; a guest takes both forms.
type LCOWNetworkAdapter struct {
	NamespaceID    string `json:"NamespaceID,omitempty"`
	ID             string `json:"ID,omitempty"`
	MacAddress     string `json:"MacAddress,omitempty"`
	IPAddress      string `json:"IPAddress,omitempty"`
	PrefixLength   uint8  `json:"PrefixLength,omitempty"`
	GatewayAddress string `json:"GatewayAddress,omitempty"`
	DNSSuffix      string `json:"DNSSuffix,omitempty"`
	DNSServerList  string `json:"DNSServerList,omitempty"`
	// EnableLowMetric makes this NIC's routes the last to be used.
	EnableLowMetric bool `json:"EnableLowMetric,omitempty"`
	// EncapOverhead is taken off the NIC's MTU.
	EncapOverhead uint16 `json:"EncapOverhead,omitempty"`

	IPConfigs          []LCOWIPConfig `json:"IPConfigs,omitempty"`
	Routes             []LCOWRoute    `json:"Routes,omitempty"`
	PolicyBasedRouting bool           `json:"PolicyBasedRouting,omitempty"`
	// VPCIAssigned says that the NIC is an assigned PCI device.
	VPCIAssigned bool `json:"VPCIAssigned,omitempty"`
}

// LCOWIPConfig is one address of a NIC, IPv4 or IPv6.
type LCOWIPConfig struct {
	IPAddress    string `json:"IPAddress,omitempty"`
	PrefixLength uint8  `json:"PrefixLength,omitempty"`
}

// LCOWRoute is one route of a NIC. DestinationPrefix is in CIDR form.
type LCOWRoute struct {
	NextHop           string `json:"NextHop,omitempty"`
	DestinationPrefix string `json:"DestinationPrefix,omitempty"`
	Metric            uint16 `json:"Metric,omitempty"`
}

// NetworkModifyRequest configures a NIC in a Windows guest: PreAdd, before
// the NIC is there, with the HNS endpoint as Settings; then Add; Remove.
type NetworkModifyRequest struct {
	AdapterId   string      `json:"AdapterId,omitempty"`
	RequestType RequestType `json:"RequestType,omitempty"`
	Settings    any         `json:"Settings,omitempty"`
}

// RS4NetworkModifyRequest is the [NetworkModifyRequest] of hosts before build
// 17763.
type RS4NetworkModifyRequest struct {
	AdapterInstanceId string      `json:"AdapterInstanceId,omitempty"`
	RequestType       RequestType `json:"RequestType,omitempty"`
	Settings          any         `json:"Settings,omitempty"`
}

// HvSocketAddress tells a Windows guest the socket addresses of itself and of
// its host. A guest asks for it in its capabilities.
type HvSocketAddress struct {
	LocalAddress  string `json:"LocalAddress,omitempty"`
	ParentAddress string `json:"ParentAddress,omitempty"`
}
