package hns

import (
	"errors"
	"io/fs"
)

// The sentinels; test with errors.Is. Each also is the error of the standard
// library with the same meaning.
var (
	// ErrNotFound says that an endpoint or a namespace does not exist; it is
	// also fs.ErrNotExist.
	ErrNotFound error = &sentinel{"not found", fs.ErrNotExist}
	// ErrAlreadyExists says that an id is in use, or that an endpoint is in
	// another namespace; it is also fs.ErrExist.
	ErrAlreadyExists error = &sentinel{"already exists", fs.ErrExist}
	// ErrNotSupported says that this network cannot do it; it is also
	// errors.ErrUnsupported.
	ErrNotSupported error = &sentinel{"not supported", errors.ErrUnsupported}
)

type sentinel struct {
	text string
	also error
}

func (s *sentinel) Error() string { return s.text }

func (s *sentinel) Is(target error) bool { return target == s.also }
