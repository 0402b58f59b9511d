package uvm

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hns"
	"github.com/byrevm/byre/internal/bridge"
	"github.com/byrevm/byre/schema1"
)

// A UtilityVM is a virtual machine that hosts containers. Its methods are
// safe for concurrent use.
type UtilityVM struct {
	id, owner, os string
	host          hcs.HostInfo
	engine        hcs.Engine
	network       hns.Network
	sys           hcs.System
	log           *slog.Logger
	processors    int32
	physical      bool // its memory is physically backed

	external bool          // guest requests go over bridge, not through sys
	internal bool          // the engine has the connection to the guest
	output   OutputHandler // reads the log connection
	listen   listeners     // those that Start accepts on; closed by then, or by ended

	containers, mounts, shares atomic.Uint64 // what was numbered so far

	scsi       scsiBus
	vpmem      vpmemBus
	plan9      plan9Bus
	claims     claims
	pci        pciBus
	vsmb       vsmbBus
	pipes      pipeSet
	namespaces refs[string, *netNS]   // by canonical id
	places     refs[string, struct{}] // in the guest, for turns only
	unions     backlog                // combinations of layers that were called off

	memory  memoryProcess
	times   timeline
	stopped context.Context // ends, with the cause, when sys stops
	wg      sync.WaitGroup  // every goroutine of this VM

	outputDone chan struct{} // closed, by finishOutput, when all output has been handled
	outputOnce sync.Once
	closed     func() error // closes once; later calls return the same

	mu     sync.Mutex // guards what follows
	state  state
	client *bridge.Client // set when Start succeeds, if external
	logs   net.Conn       // the log connection, once it is there
	proto  uint32
	caps   schema1.GuestDefinedCapabilities
}

// A state is how far the life of a VM has come.
type state int

const (
	created state = iota // not started
	started              // Start has been called
	ended                // sys has stopped, or Close has been called
)

// ID returns the id that the VM was created with.
func (vm *UtilityVM) ID() string { return vm.id }

// OS returns "linux" or "windows", the guest's operating system.
func (vm *UtilityVM) OS() string { return vm.os }

// IsOCI returns false: the parameters of [UtilityVM.CreateProcess] hold no
// OCI process.
func (vm *UtilityVM) IsOCI() bool { return false }

// ProcessorCount returns the number of virtual processors.
func (vm *UtilityVM) ProcessorCount() int32 { return vm.processors }

// ContainerCounter returns a number that it has not returned before for this
// VM, for the place of a container in the guest. The first is 1.
func (vm *UtilityVM) ContainerCounter() uint64 { return vm.containers.Add(1) }

// UVMMountCounter returns a number that it has not returned before for this
// VM, for the place of a mount in the guest. The first is 1.
func (vm *UtilityVM) UVMMountCounter() uint64 { return vm.mounts.Add(1) }

// Capabilities returns the version of the bridge protocol and what the guest
// said that it can do; zero before [UtilityVM.Start].
func (vm *UtilityVM) Capabilities() (uint32, schema1.GuestDefinedCapabilities) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.proto, vm.caps
}

// SignalProcessSupported reports whether the guest can signal processes.
func (vm *UtilityVM) SignalProcessSupported() bool {
	_, caps := vm.Capabilities()
	return caps.SignalProcessSupported
}

// DeleteContainerStateSupported reports whether
// [UtilityVM.DeleteContainerState] works.
func (vm *UtilityVM) DeleteContainerStateSupported() bool {
	_, caps := vm.Capabilities()
	return vm.external && caps.DeleteContainerStateSupported
}

// guest returns the bridge of a VM that has one.
func (vm *UtilityVM) guest() (*bridge.Client, error) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.client != nil {
		return vm.client, nil
	}
	if vm.state == ended {
		return nil, &hcs.Error{Op: "reach guest", System: vm.id, Err: hcs.ErrStopped}
	}
	return nil, &hcs.Error{Op: "reach guest", System: vm.id, Err: hcs.ErrInvalidState}
}

// guestError gives err the class [hcs.ErrStopped] if the guest cannot answer
// any more.
func (vm *UtilityVM) guestError(err error) error {
	if err == nil {
		return nil
	}
	gone := errors.Is(err, bridge.ErrClosed)
	select {
	case <-vm.sys.Done():
		gone = true
	default:
	}
	if gone {
		return &goneError{err}
	}
	return err
}

// A goneError is the failure of a call whose guest went away.
type goneError struct{ err error }

func (e *goneError) Error() string { return "guest is gone: " + e.err.Error() }

// Unwrap returns the class and the failure.
func (e *goneError) Unwrap() []error { return []error{hcs.ErrStopped, e.err} }
