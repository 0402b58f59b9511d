package engine

import (
	"context"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/engine/computecore"
)

// New returns an engine with settings of its own. Of c only Logger counts:
// the others are about QEMU.
func New(c Config) hcs.Engine {
	return computecore.New(computecore.Config{Logger: c.Logger})
}

// Checks looks at the host. It starts nothing.
func Checks(ctx context.Context) []Check {
	var out []Check
	for _, c := range computecore.Checks(ctx) {
		out = append(out, Check(c))
	}
	return out
}
