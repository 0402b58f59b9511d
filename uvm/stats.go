package uvm

import (
	"context"

	"github.com/byrevm/byre/stats"
)

// Stats returns what the VM uses of the host. It is not implemented yet: the
// error wraps [hcs.ErrNotSupported].
func (vm *UtilityVM) Stats(ctx context.Context) (*stats.VirtualMachineStatistics, error) {
	return nil, notYet("Stats")
}
