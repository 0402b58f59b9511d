package hcsschema

import (
	"encoding/json"
	"time"
)

// ProcessParameters starts a process in a utility VM or in a Windows
// container. A Windows guest reads CommandLine; a Linux guest reads
// CommandArgs, or splits CommandLine when there are none.
type ProcessParameters struct {
	ApplicationName  string            `json:"ApplicationName,omitempty"`
	CommandLine      string            `json:"CommandLine,omitempty"`
	CommandArgs      []string          `json:"CommandArgs,omitempty"`
	User             string            `json:"User,omitempty"`
	WorkingDirectory string            `json:"WorkingDirectory,omitempty"`
	Environment      map[string]string `json:"Environment,omitempty"`
	RestrictedToken  bool              `json:"RestrictedToken,omitempty"`
	// EmulateConsole gives the process a terminal.
	EmulateConsole   bool `json:"EmulateConsole,omitempty"`
	CreateStdInPipe  bool `json:"CreateStdInPipe,omitempty"`
	CreateStdOutPipe bool `json:"CreateStdOutPipe,omitempty"`
	CreateStdErrPipe bool `json:"CreateStdErrPipe,omitempty"`
	// ConsoleSize is height, then width.
	ConsoleSize      []int32 `json:"ConsoleSize,omitempty"`
	UseExistingLogin bool    `json:"UseExistingLogin,omitempty"`
	UseLegacyConsole bool    `json:"UseLegacyConsole,omitempty"`
}

// LinuxProcessParameters starts a process in a Linux guest. In a container
// OciProcess is the process to add, and its absence starts the container's
// init; only the three Create*Pipe members count beside it.
type LinuxProcessParameters struct {
	ProcessParameters
	// CreateInUtilityVm starts the process beside the container, in the
	// utility VM itself.
	CreateInUtilityVm bool `json:"CreateInUtilityVm,omitempty"`
	// OciSpecification is not sent by byre.
	OciSpecification json.RawMessage `json:"OciSpecification,omitempty"`
	// OciProcess is the process member of an OCI runtime specification.
	OciProcess json.RawMessage `json:"OciProcess,omitempty"`
}

// Values of [ProcessModifyRequest] Operation, and of [CloseHandle] Handle.
const (
	ModifyConsoleSize = "ConsoleSize"
	ModifyCloseHandle = "CloseHandle"
	HandleStdIn       = "StdIn"
)

// ProcessModifyRequest changes a running process; Operation tells which
// member counts.
type ProcessModifyRequest struct {
	Operation   string       `json:"Operation,omitempty"`
	ConsoleSize *ConsoleSize `json:"ConsoleSize,omitempty"`
	CloseHandle *CloseHandle `json:"CloseHandle,omitempty"`
}

// ConsoleSize is the new size of a process's terminal, in cells.
type ConsoleSize struct {
	Height int32 `json:"Height,omitempty"`
	Width  int32 `json:"Width,omitempty"`
}

// CloseHandle names the standard handle to close.
type CloseHandle struct {
	Handle string `json:"Handle,omitempty"`
}

// ProcessStatus tells whether and how a process has ended. When
// LastWaitResult is not zero, ExitCode means nothing.
type ProcessStatus struct {
	ProcessId      uint32 `json:"ProcessId,omitempty"`
	Exited         bool   `json:"Exited,omitempty"`
	ExitCode       uint32 `json:"ExitCode,omitempty"`
	LastWaitResult int32  `json:"LastWaitResult,omitempty"`
}

// ProcessDetails is a process in a process list. A Linux guest fills
// ProcessId only.
type ProcessDetails struct {
	ProcessId                    uint32    `json:"ProcessId,omitempty"`
	ImageName                    string    `json:"ImageName,omitempty"`
	CreateTimestamp              time.Time `json:"CreateTimestamp,omitzero"`
	UserTime100ns                uint64    `json:"UserTime100ns,omitempty"`
	KernelTime100ns              uint64    `json:"KernelTime100ns,omitempty"`
	MemoryCommitBytes            uint64    `json:"MemoryCommitBytes,omitempty"`
	MemoryWorkingSetPrivateBytes uint64    `json:"MemoryWorkingSetPrivateBytes,omitempty"`
	MemoryWorkingSetSharedBytes  uint64    `json:"MemoryWorkingSetSharedBytes,omitempty"`
}

// A Signal is what a Windows process can be told.
type Signal string

// The signals of Windows.
const (
	CtrlC        Signal = "CtrlC"
	CtrlBreak    Signal = "CtrlBreak"
	CtrlClose    Signal = "CtrlClose"
	CtrlLogOff   Signal = "CtrlLogOff"
	CtrlShutdown Signal = "CtrlShutdown"
)

// SignalProcessOptionsLCOW is a signal to a Linux process. Zero is absent and
// kills.
type SignalProcessOptionsLCOW struct {
	Signal int `json:"Signal,omitempty"`
}

// SignalProcessOptionsWCOW is a signal to a Windows process. Empty is absent
// and kills.
type SignalProcessOptionsWCOW struct {
	Signal Signal `json:"Signal,omitempty"`
}
