//go:build !windows

package container

import (
	"fmt"

	"github.com/Microsoft/go-winio/pkg/guid"

	"github.com/byrevm/byre/hcs"
)

// layerID returns the id of a layer: a GUID of its name.
func layerID(name string) (guid.GUID, error) { return nameID(name) }

// makeScratchLayer is for Windows only.
func makeScratchLayer(string, []string) error {
	return fmt.Errorf("a scratch disk for a Windows container: %w", hcs.ErrNotSupported)
}
