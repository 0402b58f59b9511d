package engine

import (
	"context"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/internal/engine/qemu"
)

// New returns an engine with settings of its own.
func New(c Config) hcs.Engine {
	return qemu.New(qemu.Config{Accel: c.Accel, RunDir: c.RunDir, Logger: c.Logger, Network: c.Network})
}

// Checks looks at the host. It starts no virtual machine but a probe of KVM.
func Checks(ctx context.Context) []Check {
	var out []Check
	for _, c := range qemu.Checks(ctx) {
		out = append(out, Check(c))
	}
	return out
}
