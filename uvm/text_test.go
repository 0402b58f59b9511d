package uvm_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/uvm"
)

// TestPathsAreText attaches files whose names no document can have. Beside
// each is one with the name that a document would make of it.
func TestPathsAreText(t *testing.T) {
	v := start(t, setup{})
	ctx, dir := t.Context(), t.TempDir()
	bad := filepath.Join(dir, "f\xff")
	if err := os.WriteFile(filepath.Join(dir, "f\ufffd"), make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, add := range map[string]func() error{
		"SCSI":    func() error { _, err := v.AddSCSI(ctx, bad, "", false, uvm.VMAccessTypeNoop); return err },
		"VPMEM":   func() error { _, err := v.AddVPMEM(ctx, bad); return err },
		"Plan9":   func() error { _, err := v.AddPlan9(ctx, bad, "/mnt", false, false, nil); return err },
		"allowed": func() error { _, err := v.AddPlan9(ctx, dir, "/mnt", false, true, []string{"f\xff"}); return err },
		"pipe":    func() error { _, err := v.AddPipe(ctx, bad); return err },
	} {
		if err := add(); !errors.Is(err, hcs.ErrNotSupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	v.empty()
}
