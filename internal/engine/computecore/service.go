package computecore

import "io"

// A Handle is one of the service's: of a system or of a process. 0 is none.
type Handle uintptr

// A Result is how an operation ended.
type Result struct {
	Code     uint32 // HRESULT
	Document string // JSON: what was asked for, or what is known of the failure
}

// Failed reports whether the operation failed: the high bit of an HRESULT.
func (r Result) Failed() bool { return r.Code&0x80000000 != 0 }

// A Call is an operation on a handle. The document that goes with it depends
// on the call; "" is none.
type Call int

// The calls on systems.
const (
	CallStart Call = iota
	CallShutdown
	CallTerminate
	CallModify
	CallProperties
)

// The calls on processes.
const (
	CallSignalProcess Call = iota + 32
	CallTerminateProcess
	CallModifyProcess
	CallProcessProperties
)

// Types of events (HCS_EVENT_TYPE).
const (
	EventSystemExited          uint32 = 0x00000001
	EventSystemCrashInitiated  uint32 = 0x00000002
	EventSystemCrashReport     uint32 = 0x00000003
	EventGuestConnectionClosed uint32 = 0x00000006
	EventProcessExited         uint32 = 0x00010000
	EventServiceDisconnect     uint32 = 0x02000000
)

// An Event is something that the service reports about a handle.
type Event struct {
	Type     uint32
	Document string
}

// ProcessInfo is what comes with the handle of a new process. The streams
// that were not asked for are nil; the others belong to the caller.
type ProcessInfo struct {
	Pid            uint32
	Stdin          io.WriteCloser
	Stdout, Stderr io.ReadCloser
}

// Close closes the streams.
func (p *ProcessInfo) Close() {
	if p.Stdin != nil {
		p.Stdin.Close()
	}
	if p.Stdout != nil {
		p.Stdout.Close()
	}
	if p.Stderr != nil {
		p.Stderr.Close()
	}
}

// A Service is the Host Compute Service. A call that takes time returns when
// its operation has its result, however long that takes; the caller does not
// wait for it in a goroutine that has other things to do. Events are
// delivered on any thread, also while a call is under way, and possibly once
// more after the handle was closed; their receiver does not block.
type Service interface {
	CreateSystem(id, document string) (Handle, Result)
	OpenSystem(id string) (Handle, Result)
	CloseSystem(Handle)
	// OnSystem has the events of a system delivered to f. It may be called
	// once for a handle.
	OnSystem(h Handle, f func(Event)) Result
	CallSystem(c Call, h Handle, document string) Result

	CreateProcess(system Handle, parameters string) (Handle, ProcessInfo, Result)
	CloseProcess(Handle)
	// OnProcess is OnSystem for a process.
	OnProcess(h Handle, f func(Event)) Result
	CallProcess(c Call, h Handle, document string) Result

	EnumerateSystems(query string) Result
	ServiceProperties(query string) Result
	GrantVMAccess(id, path string) Result
	GrantGroupAccess(path string) Result
}
