package qemu

import "fmt"

// shares are what a system gets of the host's processors. Zero is no limit,
// and the weight that others have by default.
type shares struct {
	limit  int64 // 1/1000 of a percent of all processors of the system
	weight int64 // against other systems
}

const (
	maxLimit      = 100_000
	maxWeight     = 10_000
	defaultWeight = 100
)

func (s shares) check() error {
	switch {
	case s.limit < 0 || s.limit > maxLimit:
		return fmt.Errorf("processor limit %d: from 1 to %d are possible", s.limit, maxLimit)
	case s.weight < 0 || s.weight > maxWeight:
		return fmt.Errorf("processor weight %d: from 1 to %d are possible", s.weight, maxWeight)
	}
	return nil
}

const cpuPeriod = 100_000 // µs, over which a limit holds

// quota is the processor time of so many processors in one period, in µs, or
// 0 for any: the kernel wants at least a millisecond.
func (s shares) quota(processors int) int64 {
	if s.limit == 0 || s.limit == maxLimit {
		return 0
	}
	return max(1000, s.limit*int64(processors)*cpuPeriod/maxLimit)
}
