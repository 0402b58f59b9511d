//go:build !linux

package pipe

import (
	"errors"
	"io/fs"
)

// access fails: owners of sockets are those of Linux.
func access(fs.FileInfo) (Access, error) { return Access{}, errors.ErrUnsupported }
