package container

import (
	"errors"
	"strings"
)

// Why a command could not be started.
var (
	ErrCommandNotFound      = errors.New("the command is not in the container")
	ErrCommandNotExecutable = errors.New("the command cannot be executed")
)

// HRESULTs with which the agent tells those two apart: the field's file not
// found, and access denied.
const (
	resultNotFound = 0x80070002
	resultDenied   = 0x80070005
)

// A startError is a failure to start a command. It wraps its class, one of
// the sentinels, and what the agent said.
type startError struct{ class, err error }

// Error leaves out of the agent's words how it came to run the command.
func (e *startError) Error() string {
	s := e.err.Error()
	if i := strings.LastIndex(s, `exec: "`); i >= 0 {
		s = s[i:]
	}
	return e.class.Error() + ": " + s
}

func (e *startError) Unwrap() []error { return []error{e.class, e.err} }

// commandError returns err, the failure to create a container or a process,
// such that [errors.Is] tells whether it was the command that could not be
// run.
func commandError(err error) error {
	var r interface {
		error
		HRESULT() uint32
	}
	if !errors.As(err, &r) {
		return err
	}
	switch r.HRESULT() {
	case resultNotFound:
		return &startError{ErrCommandNotFound, err}
	case resultDenied:
		return &startError{ErrCommandNotExecutable, err}
	}
	return err
}
