package cow

import (
	"context"
	"io"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
)

// A Process runs in a utility VM or in a container. Its methods are safe for
// concurrent use.
type Process interface {
	// Close gives back the host's side of the process: its streams and
	// listeners. It does not kill. A second call does nothing.
	Close() error

	// CloseStdin ends the input of the process: it reads end of file once it
	// has read what was written. A second call does nothing.
	CloseStdin(ctx context.Context) error

	// Pid returns the id of the process in its own system.
	Pid() int

	// Stdio returns the streams that were asked for and nil for the others.
	// They belong to the process. Reads and writes wait until the process has
	// its end. stdout and stderr must be read to their end, or the exit of
	// the process is not seen.
	Stdio() (stdin io.Writer, stdout, stderr io.Reader)

	// ResizeConsole sets the size of the terminal, in characters.
	ResizeConsole(ctx context.Context, width, height uint16) error

	// Kill ends the process. It reports whether there was one to kill.
	Kill(ctx context.Context) (delivered bool, err error)

	// Signal sends a signal: a hcsschema.SignalProcessOptionsLCOW or
	// SignalProcessOptionsWCOW, or nil to kill.
	Signal(ctx context.Context, options any) (delivered bool, err error)

	// Wait returns when the process has exited and its output has been
	// delivered; its error says that this could not be learned.
	Wait() error

	// ExitCode returns the exit code once Wait has returned, and an error
	// before, or if the exit could not be learned.
	ExitCode() (int, error)
}

// A ProcessHost runs processes.
type ProcessHost interface {
	// CreateProcess starts a process: config is an
	// hcsschema.ProcessParameters, or what the bridge of a Linux guest takes
	// if IsOCI.
	CreateProcess(ctx context.Context, config any) (Process, error)

	// OS returns "linux" or "windows".
	OS() string

	// IsOCI reports whether the parameters of CreateProcess hold an OCI
	// process.
	IsOCI() bool
}

// A Container is a process host with a life of its own.
type Container interface {
	ProcessHost

	// Close gives back the host's side of the container and releases its
	// waiters. It does not stop it. A second call does nothing.
	Close() error

	// ID returns the id that the container was created with.
	ID() string

	// Properties returns properties in the v1 schema.
	Properties(ctx context.Context, types ...schema1.PropertyType) (*schema1.ContainerProperties, error)

	// PropertiesV2 returns properties in the v2 schema.
	PropertiesV2(ctx context.Context, types ...hcsschema.PropertyType) (*hcsschema.Properties, error)

	// Start starts the container. In a Linux guest its init process is
	// started by the first CreateProcess that has no OCI process.
	Start(ctx context.Context) error

	// Shutdown asks the container to end.
	Shutdown(ctx context.Context) error

	// Terminate ends it by force.
	Terminate(ctx context.Context) error

	// Wait returns when the container has ended.
	Wait() error
}
