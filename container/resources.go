package container

import (
	"fmt"
	"math"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	minMemory = 6 << 20 // what docker accepts at the least
	cpuPeriod = 100000  // microseconds
)

func resources(o SpecOptions) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	if o.Memory != 0 {
		if o.Memory < minMemory {
			return nil, fmt.Errorf("memory limit %d bytes is below the least, 6 MiB", o.Memory)
		}
		r.Memory = &specs.LinuxMemory{Limit: &o.Memory}
	}
	if o.CPUs != 0 {
		if math.IsNaN(o.CPUs) || o.CPUs < 0.01 || o.CPUs > 1024 {
			return nil, fmt.Errorf("CPU limit %v is not between 0.01 and 1024", o.CPUs)
		}
		quota, period := int64(o.CPUs*cpuPeriod), uint64(cpuPeriod)
		r.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period}
	}
	return r, nil
}
