package hcs

import (
	"errors"
	"fmt"
)

// Sentinels that every engine's errors can be compared with by [errors.Is].
var (
	ErrNotFound      = errors.New("not found")
	ErrAlreadyExists = errors.New("already exists")
	ErrNotSupported  = errors.New("not supported")
	ErrInvalidState  = errors.New("not allowed in this state")
	ErrStopped       = errors.New("system has stopped")
)

// An Error is a failed operation on a system.
type Error struct {
	Op     string // "create", "start", "modify", ...
	System string // id of the system
	Path   string // the resource path, for modify
	Code   uint32 // HRESULT of the Host Compute Service, 0 if none
	Err    error
	// Records are what the Host Compute Service says of the failure beyond
	// its code, the outermost first. Texts of a guest may be among them.
	Records []ErrorRecord
}

// An ErrorRecord is an error event of the Host Compute Service.
type ErrorRecord struct {
	Message    string
	Source     string // the component that failed
	Provider   string // GUID of the event's definition
	EventID    uint16
	StackTrace string
}

func (e *Error) Error() string {
	s := e.Op + " " + e.System
	if e.Path != "" {
		s += " " + e.Path
	}
	s = fmt.Sprintf("%s: %v", s, e.Err)
	if e.Code != 0 {
		s += fmt.Sprintf(" (%#08x)", e.Code)
	}
	for _, r := range e.Records {
		if r.Message != "" {
			s += ": " + r.Message
		}
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
