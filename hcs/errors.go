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
}

func (e *Error) Error() string {
	s := e.Op + " " + e.System
	if e.Path != "" {
		s += " " + e.Path
	}
	if e.Code != 0 {
		return fmt.Sprintf("%s: %v (%#08x)", s, e.Err, e.Code)
	}
	return fmt.Sprintf("%s: %v", s, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
