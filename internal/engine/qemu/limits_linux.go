package qemu

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hcsschema"
)

// modifyLimits changes what a running system gets of the host's processors.
// What the settings leave out stays as it is.
func (s *system) modifyLimits(req *hcsschema.ModifySettingRequest) error {
	if req.RequestType != hcsschema.Update && req.RequestType != "" {
		return fmt.Errorf("%w: request type %q", hcs.ErrNotSupported, req.RequestType)
	}
	var l hcsschema.ProcessorLimits
	if err := hcs.Decode(req.Settings, &l); err != nil {
		return err
	}
	switch {
	case l.Reservation != 0:
		return fmt.Errorf("%w: member Reservation", hcs.ErrNotSupported)
	case l.MaximumFrequencyMHz != 0:
		return fmt.Errorf("%w: member MaximumFrequencyMHz", hcs.ErrNotSupported)
	case l.Limit > maxLimit || l.Weight > maxWeight: // also what no int64 holds
		return fmt.Errorf("processor limit %d and weight %d: at most %d and %d are possible", l.Limit, l.Weight, maxLimit, maxWeight)
	}
	s.shares.Lock()
	defer s.shares.Unlock()
	old := shares{cmp.Or(s.shares.now.limit, maxLimit), cmp.Or(s.shares.now.weight, defaultWeight)}
	now := shares{cmp.Or(int64(l.Limit), s.shares.now.limit), cmp.Or(int64(l.Weight), s.shares.now.weight)}
	if err := s.cgroups.limit(now, s.m.processors); err != nil {
		undo := s.cgroups.limit(old, s.m.processors)
		return fmt.Errorf("%w: a processor limit or weight on this host: %w", hcs.ErrNotSupported, errors.Join(err, undo))
	}
	s.shares.now = now
	return nil
}
