package uvm_test

import (
	"path/filepath"
	"testing"

	"github.com/byrevm/byre/test/golden"
)

// TestGolden replays the recordings of the reference, in $BYRE_GOLDEN or in
// testdata/golden, on the engine in memory, and compares every document that
// reaches the host and every message that reaches the guest. Where this
// module differs on purpose, docs/differences.md has a rule for it.
func TestGolden(t *testing.T) {
	golden.Run(t, golden.Config{
		Dir:   filepath.Join("testdata", "golden"),
		Rules: filepath.Join("..", "docs", "differences.md"),
	})
}
