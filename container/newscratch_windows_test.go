package container_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/byrevm/byre/hcs/hcstest"
)

// A scratch disk that is not there is made on top of the layers, given to the
// VM and kept: it is the caller's.
func TestNewScratch(t *testing.T) {
	h := newHouse(t, true, true)
	s := h.windowsSpec()
	s.Windows.LayerFolders[2] = h.path("new/scratch")
	c, err := h.create(s)
	if err != nil {
		t.Fatal(err)
	}
	disk := h.path("new/scratch/sandbox.vhdx")
	if !slices.ContainsFunc(h.engine.Calls(), func(c hcstest.Call) bool {
		return c.Op == hcstest.OpModify && strings.Contains(string(c.Document), strings.ReplaceAll(disk, `\`, `\\`))
	}) {
		t.Error("the VM was not given the disk")
	}
	if err := c.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(disk)
	if want := h.path("w2") + "\n" + h.path("w1") + "\nwhole\n"; err != nil || string(got) != want {
		t.Errorf("the disk is %q, %v; want %q", got, err, want)
	}
	h.nothingLeft()
}
