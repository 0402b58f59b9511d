package bridge

import (
	"encoding/json"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
)

// A Request is what every request starts with.
type Request struct {
	// ContainerID names the container, or is [NilContainer].
	ContainerID string `json:"ContainerId"`
	// ActivityID is a GUID that the answer repeats. Our host sends the nil
	// GUID.
	ActivityID string `json:"ActivityId"`
	// Trace is the caller's trace span, nil without one.
	Trace *Trace `json:"ocsc,omitempty"`
}

func (r *Request) request() *Request { return r }

// A Response is what every answer starts with. Handlers leave it zero: the
// server fills it in.
type Response struct {
	Result       Result        `json:"Result"`
	ActivityID   string        `json:"ActivityId,omitempty"`
	ErrorMessage string        `json:"ErrorMessage,omitempty"`
	ErrorRecords []ErrorRecord `json:"ErrorRecords,omitempty"`
}

func (r *Response) response() *Response { return r }

type requester interface{ request() *Request }
type responder interface{ response() *Response }

// An ErrorRecord says where in the guest a request failed.
type ErrorRecord struct {
	Result       Result `json:"Result"`
	Message      string `json:"Message"`
	StackTrace   string `json:"StackTrace,omitempty"`
	ModuleName   string `json:"ModuleName"`
	FileName     string `json:"FileName"`
	Line         uint32 `json:"Line"`
	FunctionName string `json:"FunctionName,omitempty"`
}

type negotiateRequest struct {
	Request
	MinimumVersion uint32
	MaximumVersion uint32
}

type negotiateResponse struct {
	Response
	Version      uint32       `json:"Version,omitempty"`
	Capabilities Capabilities `json:"Capabilities"`
}

// Capabilities is what a guest says of itself when the host connects.
type Capabilities struct {
	// SendHostCreateMessage and SendHostStartMessage ask the host to send
	// Create and Start for the virtual machine itself.
	SendHostCreateMessage bool `json:"SendHostCreateMessage,omitempty"`
	SendHostStartMessage  bool `json:"SendHostStartMessage,omitempty"`
	// HvSocketConfigOnStartup asks for a change of ResourceHvSocket.
	HvSocketConfigOnStartup    bool                             `json:"HvSocketConfigOnStartup,omitempty"`
	SendLifecycleNotifications bool                             `json:"SendLifecycleNotifications,omitempty"`
	SupportedSchemaVersions    []hcsschema.Version              `json:"SupportedSchemaVersions,omitempty"`
	RuntimeOSType              string                           `json:"RuntimeOsType,omitempty"` // "Linux"; "" is Windows
	GuestDefinedCapabilities   schema1.GuestDefinedCapabilities `json:"GuestDefinedCapabilities,omitzero"`
}

// A CreateRequest creates a container. Config is the document of the
// container: [hcsschema.LinuxHostedSystem] or [hcsschema.HostedSystem].
type CreateRequest struct {
	Request
	Config Quoted `json:"ContainerConfig,omitempty"`
}

// An ExecuteProcessRequest starts a process in the virtual machine
// ([NilContainer]) or in a container. In a Linux container a request without
// OCI process starts the container's init.
type ExecuteProcessRequest struct {
	Request
	Settings ExecuteProcessSettings
}

// ExecuteProcessSettings has the parameters, an
// [hcsschema.LinuxProcessParameters] or [hcsschema.ProcessParameters], and
// where the guest connects the streams to: Vsock for a Linux guest, Stdio for
// a Windows one.
type ExecuteProcessSettings struct {
	ProcessParameters Quoted         `json:"ProcessParameters,omitempty"`
	Stdio             *StdioServices `json:"StdioRelaySettings,omitempty"`
	Vsock             *StdioPorts    `json:"VsockStdioRelaySettings,omitempty"`
}

// StdioServices names the service of each stream, "" for none.
type StdioServices struct {
	In  string `json:"StdIn,omitempty"`
	Out string `json:"StdOut,omitempty"`
	Err string `json:"StdErr,omitempty"`
}

// StdioPorts names the vsock port of each stream, 0 for none.
type StdioPorts struct {
	In  uint32 `json:"StdIn,omitempty"`
	Out uint32 `json:"StdOut,omitempty"`
	Err uint32 `json:"StdErr,omitempty"`
}

// An ExecuteProcessResponse has the process's id in the guest.
type ExecuteProcessResponse struct {
	Response
	ProcessID uint32 `json:"ProcessId"`
}

// Infinite is the TimeoutInMs that never ends.
const Infinite uint32 = 0xffffffff

// A WaitForProcessRequest is answered when the process has exited and its
// output has been relayed, or with [ErrTimeout] after TimeoutInMs.
type WaitForProcessRequest struct {
	Request
	ProcessID   uint32 `json:"ProcessId"`
	TimeoutInMs uint32
}

// A WaitForProcessResponse has the exit code: 128 and the signal for a
// process of a Linux container that was killed by one.
type WaitForProcessResponse struct {
	Response
	ExitCode uint32
}

// A SignalProcessRequest sends a signal; without Options it kills. Options is
// an [hcsschema.SignalProcessOptionsLCOW] or
// [hcsschema.SignalProcessOptionsWCOW].
type SignalProcessRequest struct {
	Request
	ProcessID uint32          `json:"ProcessId"`
	Options   json.RawMessage `json:"Options,omitempty"`
}

// A ResizeConsoleRequest sets the size of a terminal, in characters.
type ResizeConsoleRequest struct {
	Request
	ProcessID uint32 `json:"ProcessId"`
	Height    uint16
	Width     uint16
}

// A GetPropertiesRequest asks for properties of a container. Query is an
// [hcsschema.PropertyQuery].
type GetPropertiesRequest struct {
	Request
	Query Quoted `json:"Query,omitempty"`
}

// A GetPropertiesResponse has an [hcsschema.Properties].
type GetPropertiesResponse struct {
	Response
	Properties Quoted `json:"Properties,omitempty"`
}

// A ModifySettingsRequest changes the guest's half of a resource. Settings is
// an [hcsschema.GuestRequest]; the container is [NilContainer].
type ModifySettingsRequest struct {
	Request
	Settings json.RawMessage `json:"Request,omitempty"`
}

// A DumpStacksResponse has the stacks of the agent's threads as text.
type DumpStacksResponse struct {
	Response
	GuestStacks string
}

// A NotificationType says how a container ended, or what else became of it.
type NotificationType string

// The notification types. All but Constructed, Started and Paused mean that
// the container has ended.
const (
	NotifyNone           NotificationType = "None"
	NotifyGracefulExit   NotificationType = "GracefulExit"   // after a graceful shutdown
	NotifyForcedExit     NotificationType = "ForcedExit"     // after a forced one
	NotifyUnexpectedExit NotificationType = "UnexpectedExit" // by itself
	NotifyReboot         NotificationType = "Reboot"
	NotifyConstructed    NotificationType = "Constructed"
	NotifyStarted        NotificationType = "Started"
	NotifyPaused         NotificationType = "Paused"
	NotifyUnknown        NotificationType = "Unknown"
)

func (t NotificationType) ended() bool {
	return t != NotifyConstructed && t != NotifyStarted && t != NotifyPaused
}

// A ContainerNotification tells the host what became of a container. Nothing
// answers it.
type ContainerNotification struct {
	Request
	Type NotificationType
	// Operation is "None" for an exit.
	Operation  string
	Result     Result `json:"Result"`
	ResultInfo Quoted `json:"ResultInfo,omitempty"`
}

// Exited returns the notification that a container has ended.
func Exited(id string, t NotificationType) *ContainerNotification {
	return &ContainerNotification{Request: Request{ContainerID: id, ActivityID: NilContainer}, Type: t, Operation: "None"}
}
