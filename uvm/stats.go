package uvm

import (
	"context"
	"fmt"

	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/stats"
)

const pageSize = 4096 // of the pages that the hypervisor counts in

// Stats returns what the VM uses of the host. Where the engine does not know
// how much memory that is, the working set is that of the process that the
// host keeps for the VM's memory, and 0 if that cannot be looked at.
func (vm *UtilityVM) Stats(ctx context.Context) (*stats.VirtualMachineStatistics, error) {
	p, err := vm.sys.Properties(ctx, hcsschema.PTStatistics, hcsschema.PTMemory)
	if err != nil {
		return nil, fmt.Errorf("statistics of utility VM %s: %w", vm.id, err)
	}
	s := &stats.VirtualMachineStatistics{
		Processor: &stats.VirtualMachineProcessorStatistics{},
		Memory:    &stats.VirtualMachineMemoryStatistics{},
	}
	if p.Statistics != nil && p.Statistics.Processor != nil {
		s.Processor.TotalRuntimeNS = p.Statistics.Processor.TotalRuntime100ns * 100
	}
	if p.Statistics != nil && p.Statistics.Memory != nil {
		s.Memory.WorkingSetBytes = p.Statistics.Memory.MemoryUsagePrivateWorkingSetBytes
	}
	if s.Memory.WorkingSetBytes == 0 && !vm.physical {
		n, err := vm.memory.workingSet(vm.sys.RuntimeID())
		if err != nil {
			vm.log.DebugContext(ctx, "working set of utility VM not known", "err", err)
		}
		s.Memory.WorkingSetBytes = n
	}
	if p.Memory == nil {
		return s, nil
	}
	s.Memory.VirtualNodeCount = p.Memory.VirtualNodeCount
	if m := p.Memory.VirtualMachineMemory; m != nil {
		s.Memory.VmMemory = &stats.VirtualMachineMemory{
			AvailableMemory:       m.AvailableMemory,
			AvailableMemoryBuffer: m.AvailableMemoryBuffer,
			ReservedMemory:        m.ReservedMemory,
			AssignedMemory:        m.AssignedMemory,
			SlpActive:             m.SlpActive,
			BalancingEnabled:      m.BalancingEnabled,
			DmOperationInProgress: m.DmOperationInProgress,
		}
		if vm.physical { // all that it was given is in use, and what the host needs beside it
			s.Memory.WorkingSetBytes = max(s.Memory.WorkingSetBytes, m.AssignedMemory*pageSize)
		}
	}
	return s, nil
}
