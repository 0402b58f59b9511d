//go:build !linux

package container

import (
	"os"

	"github.com/byrevm/byre/internal/layers"
)

// newScratch makes a scratch disk in dir, which release removes.
func newScratch(dir string, size int64) (path string, release func() error, err error) {
	path, err = layers.NewScratch(dir, size)
	if err != nil {
		return "", nil, err
	}
	return path, func() error { return os.Remove(path) }, nil
}
