package container

import (
	"errors"
	"fmt"
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

// commandError returns err, the failure of a CreateProcess, such that
// [errors.Is] tells whether it was the command that could not be run.
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
		return fmt.Errorf("%w: %w", ErrCommandNotFound, err)
	case resultDenied:
		return fmt.Errorf("%w: %w", ErrCommandNotExecutable, err)
	}
	return err
}
