package hcs

import (
	"context"
	"net"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/cow"
	"github.com/byrevm/byre/hcsschema"
)

// A System is one virtual machine. Its methods are safe for concurrent use.
// Once it has stopped, every method but Err, Done, ID, RuntimeID, Terminate
// and Close fails with [ErrStopped].
type System interface {
	// ID returns the id that the system was created with.
	ID() string

	// RuntimeID returns the id that the engine gave the system: the address
	// of its sockets. It differs between any two systems.
	RuntimeID() guid.GUID

	// Start runs a system that was created. It returns when the virtual
	// machine runs, which is before its guest has booted. A second call
	// fails with [ErrInvalidState].
	Start(ctx context.Context) error

	// Modify applies req to a running system. The device is present, or
	// gone, when Modify returns nil; on error nothing has changed. One
	// exception: see [HostInfo.PMemRemovable]. A resource in use fails with
	// [ErrAlreadyExists], one that is not there with [ErrNotFound], a path or
	// member that the engine does not have with [ErrNotSupported].
	Modify(ctx context.Context, req *hcsschema.ModifySettingRequest) error

	// Properties returns the properties of the given types, and the basic
	// ones always.
	Properties(ctx context.Context, types ...hcsschema.PropertyType) (*hcsschema.Properties, error)

	// Listen accepts the connections that the guest opens to service, also
	// before Start. A service that is being listened on fails with
	// [ErrAlreadyExists]. The listener ends with the system. Its connections
	// have CloseWrite.
	Listen(service ServiceID) (net.Listener, error)

	// Dial opens a connection to service in the guest. The connection has
	// CloseWrite.
	Dial(ctx context.Context, service ServiceID) (net.Conn, error)

	// Terminate stops the system at once, as pulling the plug would. It
	// returns when the system has stopped or ctx has ended. Terminating a
	// stopped system does nothing.
	Terminate(ctx context.Context) error

	// Done is closed when the system has stopped.
	Done() <-chan struct{}

	// Err is nil until the system has stopped and an [*Exit] that says why
	// from then on.
	Err() error

	// Close terminates a system that still runs, and gives back everything
	// that it holds on the host. A second call does nothing.
	Close() error
}

// Processes is a [System] whose engine itself speaks to the guest (the
// document has a GuestConnection): processes of the virtual machine are made
// by the engine.
type Processes interface {
	CreateProcess(ctx context.Context, params any) (cow.Process, error)
}

// Hosted is a [System] whose engine itself makes the containers in the guest.
// The document is that of the container, with HostingSystemId and
// HostedSystem.
type Hosted interface {
	CreateHosted(ctx context.Context, id string, doc Document) (cow.Container, error)
}
