package hcsschema

// HvSocket2 is the socket device of a VM.
type HvSocket2 struct {
	HvSocketConfig *HvSocketSystemConfig `json:"HvSocketConfig,omitempty"`
}

// HvSocketSystemConfig says, in security descriptors, who on the host may
// listen for and connect to a VM.
type HvSocketSystemConfig struct {
	DefaultBindSecurityDescriptor    string `json:"DefaultBindSecurityDescriptor,omitempty"`
	DefaultConnectSecurityDescriptor string `json:"DefaultConnectSecurityDescriptor,omitempty"`
	// ServiceTable has the service GUID as key.
	ServiceTable map[string]HvSocketServiceConfig `json:"ServiceTable,omitempty"`
}

// HvSocketServiceConfig is the exception for one service.
type HvSocketServiceConfig struct {
	BindSecurityDescriptor    string `json:"BindSecurityDescriptor,omitempty"`
	ConnectSecurityDescriptor string `json:"ConnectSecurityDescriptor,omitempty"`
	AllowWildcardBinds        bool   `json:"AllowWildcardBinds,omitempty"`
}

// HvSocket is the socket device of a container.
type HvSocket struct {
	Config                 *HvSocketSystemConfig `json:"Config,omitempty"`
	EnablePowerShellDirect bool                  `json:"EnablePowerShellDirect,omitempty"`
}
