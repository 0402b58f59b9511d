package uvm

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/byrevm/byre/hcs"
)

// Errors of disks, shares and layers. Functions return them unwrapped where
// their documentation names them.
var (
	// ErrNoAvailableLocation says that every slot for a device is taken.
	ErrNoAvailableLocation = errors.New("no available location")
	// ErrNotAttached says that a path is not attached to this utility VM.
	ErrNotAttached = errors.New("not attached")
	// ErrAlreadyAttached says that a path is attached in another mode:
	// read-only or not, or as another kind of device.
	ErrAlreadyAttached = errors.New("already attached")
	// ErrNoSCSIControllers says that the utility VM was made without one.
	ErrNoSCSIControllers = errors.New("no SCSI controllers configured for this utility VM")
	// ErrTooManyAttachments says that the SCSI controllers are full.
	ErrTooManyAttachments = errors.New("too many SCSI attachments")
	// ErrSCSILayerWCOWUnsupported says that a Windows container cannot have a
	// SCSI disk as layer.
	ErrSCSILayerWCOWUnsupported = errors.New("SCSI attached layers are not supported for WCOW")
	// ErrMaxVPMEMLayerSize says that a file is larger than
	// OptionsLCOW.VPMemSizeBytes.
	ErrMaxVPMEMLayerSize = errors.New("layer size is to large for VPMEM max size")
)

// Errors of network namespaces.
var (
	// ErrNetNSAlreadyAttached says that the namespace was added before.
	ErrNetNSAlreadyAttached = errors.New("network namespace already added")
	// ErrNetNSNotFound says that the namespace was not added.
	ErrNetNSNotFound = errors.New("network namespace not found")
)

// errNotSupported is the answer to a call that is for the other kind of
// guest.
var errNotSupported error = &sentinel{"not supported", hcs.ErrNotSupported}

// A sentinel is an error that is compared by identity and belongs to a class.
type sentinel struct {
	text  string
	class error
}

func (s *sentinel) Error() string { return s.text }

// Unwrap returns the class.
func (s *sentinel) Unwrap() error { return s.class }

// missing is the error of a boot file that is not there.
func missing(what, path string) error {
	return &sentinel{fmt.Sprintf("%s: '%s' not found", what, path), fs.ErrNotExist}
}
