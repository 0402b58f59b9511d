//go:build !windows

package container_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/byrevm/byre/hcs"
)

// A scratch disk on top of the layers of Windows can only be made there.
func TestNewScratch(t *testing.T) {
	h := newHouse(t, true, true)
	s := h.windowsSpec()
	s.Windows.LayerFolders[2] = h.path("new")
	if _, err := h.create(s); !errors.Is(err, hcs.ErrNotSupported) {
		t.Errorf("got error %v, want %v", err, hcs.ErrNotSupported)
	}
	if _, err := os.Stat(h.path("new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	h.nothingLeft()
}
