package schema1

import "encoding/json"

// ProcessConfig starts a process. It differs from the newer
// ProcessParameters in that ConsoleSize is always written.
type ProcessConfig struct {
	ApplicationName  string            `json:",omitempty"`
	CommandLine      string            `json:",omitempty"`
	CommandArgs      []string          `json:",omitempty"` // Linux only
	User             string            `json:",omitempty"`
	WorkingDirectory string            `json:",omitempty"`
	Environment      map[string]string `json:",omitempty"`
	EmulateConsole   bool              `json:",omitempty"`
	CreateStdInPipe  bool              `json:",omitempty"`
	CreateStdOutPipe bool              `json:",omitempty"`
	CreateStdErrPipe bool              `json:",omitempty"`
	ConsoleSize      [2]uint           // height, width
	// CreateInUtilityVm starts the process beside the container, in the
	// utility VM itself; Linux only.
	CreateInUtilityVm bool             `json:",omitempty"`
	OCISpecification  *json.RawMessage `json:",omitempty"` // Linux only
}
