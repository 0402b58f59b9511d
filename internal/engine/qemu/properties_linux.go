package qemu

import (
	"fmt"
	"os"
	"time"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// properties answers from what is known here and from /proc.
func (s *system) properties(types []hcsschema.PropertyType) (*hcsschema.Properties, error) {
	if s.Err() != nil {
		return nil, hcs.ErrStopped
	}
	s.mu.Lock()
	started := s.started
	s.mu.Unlock()
	p := &hcsschema.Properties{
		Id: s.m.id, SystemType: "VirtualMachine", Owner: s.m.owner,
		RuntimeId: s.runtimeID.String(), State: "Created",
	}
	if started {
		p.State = "Running"
	}
	for _, t := range types {
		switch t {
		case hcsschema.PTMemory:
			pages := uint64(s.m.memory.sizeMB) << 8
			p.Memory = &hcsschema.MemoryInformationForVm{
				VirtualNodeCount:     1,
				VirtualMachineMemory: &hcsschema.VmMemory{ReservedMemory: pages, AssignedMemory: pages},
			}
		case hcsschema.PTStatistics:
			st, err := s.statistics()
			if err != nil {
				return nil, err
			}
			p.Statistics = st
		case hcsschema.PTTerminateOnLastHandleClosed:
			p.TerminateOnLastHandleClosed = true
		default:
			return nil, fmt.Errorf("%w: properties of type %s", hcs.ErrNotSupported, t)
		}
	}
	return p, nil
}

// statistics counts what QEMU has used: the machine and its emulation.
func (s *system) statistics() (*hcsschema.Statistics, error) {
	st, err := readStat(s.proc.pid())
	if err != nil {
		return nil, s.orStopped(err)
	}
	const unit = 10_000_000 / ticksPerSecond // 100 ns
	now := time.Now()
	start := s.Timeline()[0].At
	return &hcsschema.Statistics{
		Timestamp: now, ContainerStartTime: start, Uptime100ns: uint64(now.Sub(start) / 100),
		Processor: &hcsschema.ProcessorStats{
			TotalRuntime100ns:  (st.user + st.system) * unit,
			RuntimeUser100ns:   st.user * unit,
			RuntimeKernel100ns: st.system * unit,
		},
		Memory: &hcsschema.MemoryStats{MemoryUsagePrivateWorkingSetBytes: uint64(st.rss) * uint64(os.Getpagesize())},
	}, nil
}
