package hcs

import "context"

// An Engine makes compute systems from documents. Its methods are safe for
// concurrent use.
type Engine interface {
	// Host tells what a caller must know of this host before it writes a
	// document.
	Host() HostInfo

	// Create makes the system that doc describes and does not start it. It
	// fails with [ErrAlreadyExists] if a system with this id exists, and with
	// [ErrNotSupported], naming the member, if doc asks for something that the
	// engine cannot give; then nothing has been made. If ctx ends first,
	// nothing has been made either. The caller owns the system and closes it.
	Create(ctx context.Context, id string, doc Document) (System, error)
}

// HostInfo describes the host of an engine.
type HostInfo struct {
	// Build is the Windows build number whose schema rules the engine
	// follows. Engines off Windows report 19041.
	Build int

	// Processors is the number of logical processors of the host.
	Processors int

	// BootFiles are the folders in which boot files are looked for, first
	// match first.
	BootFiles []string

	// PMemRemovable says whether a persistent-memory device can be taken out
	// of a running system. Where it cannot, a Remove of one ends the guest's
	// use of it and keeps its slot for the same file.
	PMemRemovable bool

	// PCIDevices is how many PCI devices of the host a system has places for,
	// in the slots from 0 on. 0 is as many as a resource path can tell apart.
	PCIDevices int

	// InternalConnection says that the engine itself can have the connection
	// to the guest: its systems are [Processes] and [Hosted] then.
	InternalConnection bool

	// DefaultMemoryMB is the memory, in MiB, of a system whose document gives
	// no size.
	DefaultMemoryMB int
}

// A Granter is an engine whose systems need to be given access to host files
// before they use them. An engine without it needs no grants.
type Granter interface {
	// GrantAccess lets the system id, or every system, open the file or
	// folder at path. Granting twice is not an error.
	GrantAccess(ctx context.Context, id, path string, to Access) error
}

// Access says who is given access to a file.
type Access int

const (
	AccessVM    Access = iota // the one system
	AccessGroup               // every system of this host
)
