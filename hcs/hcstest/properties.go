package hcstest

import (
	"cmp"
	"context"
	"slices"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
	"github.com/byrevm/byre/schema1"
)

// pagesPerMB is how many pages of 4 KiB a MiB has.
const pagesPerMB = 256

var allCapabilities = schema1.GuestDefinedCapabilities{
	NamespaceAddRequestSupported:  true,
	SignalProcessSupported:        true,
	DumpStacksSupported:           true,
	DeleteContainerStateSupported: true,
	MappedPipeSupported:           true,
}

// Properties implements [hcs.System].
func (s *System) Properties(ctx context.Context, types ...hcsschema.PropertyType) (p *hcsschema.Properties, err error) {
	query := hcsschema.PropertyQuery{PropertyTypes: types}
	err = s.do(ctx, OpProperties, "", "", query, func() (err error) {
		p, err = s.properties(ctx, types)
		return err
	})
	return p, err
}

func (s *System) properties(ctx context.Context, types []hcsschema.PropertyType) (*hcsschema.Properties, error) {
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	p := &hcsschema.Properties{
		Id:         s.id,
		SystemType: "VirtualMachine",
		Owner:      s.doc.Owner,
		RuntimeId:  s.runtimeID.String(),
		State:      state,
	}
	if slices.Contains(types, hcsschema.PTMemory) {
		size := int32(0)
		if t := s.doc.VirtualMachine.ComputeTopology; t != nil && t.Memory != nil {
			size = t.Memory.SizeInMB
		}
		pages := uint64(cmp.Or(int(size), s.e.config.Host.DefaultMemoryMB)) * pagesPerMB
		p.Memory = &hcsschema.MemoryInformationForVm{
			VirtualNodeCount:     1,
			VirtualMachineMemory: &hcsschema.VmMemory{AssignedMemory: pages, AvailableMemory: 100, AvailableMemoryBuffer: 10},
		}
	}
	if slices.Contains(types, hcsschema.PTStatistics) {
		p.Statistics = &hcsschema.Statistics{Uptime100ns: 1, Processor: &hcsschema.ProcessorStats{TotalRuntime100ns: 1}}
	}
	if slices.Contains(types, hcsschema.PTGuestConnection) {
		info, err := s.guestInfo(ctx)
		if err != nil {
			return nil, err
		}
		p.GuestConnectionInfo = info
	}
	if f := s.e.config.Properties; f != nil {
		f(s.id, p)
	}
	return p, nil
}

// guestInfo asks the guest over the internal connection, if there is one and
// something runs that may answer.
func (s *System) guestInfo(ctx context.Context) (*hcsschema.GuestConnectionInfo, error) {
	caps := allCapabilities
	if c := s.e.config.Capabilities; c != nil {
		caps = *c
	}
	if s.internal != nil && s.e.config.Boot != nil {
		c, err := s.internal.client(ctx)
		if err != nil {
			return nil, err
		}
		caps = c.Capabilities()
	}
	return &hcsschema.GuestConnectionInfo{
		SupportedSchemaVersions:  []hcsschema.Version{*hcsschema.SchemaV21()},
		ProtocolVersion:          4,
		GuestDefinedCapabilities: caps,
	}, nil
}

var _ hcs.System = (*System)(nil)
