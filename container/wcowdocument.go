package container

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"

	"github.com/byrevm/byre/hcsschema"
)

// annotationContainer begins the names of annotations that limit a container.
const annotationContainer = "io.microsoft.container."

// describe fills in what the document of a Windows container has beyond its
// layers and mounts (spec §4.4).
func (f *folders) describe(c *hcsschema.Container) error {
	s := f.spec
	if s.Root == nil {
		return errors.New("spec is invalid - root isn't populated")
	}
	if s.Root.Readonly {
		return errors.New("a read-only root is not supported in a Windows container")
	}
	if s.Hostname != "" {
		c.GuestOs = &hcsschema.GuestOs{HostName: s.Hostname}
	}
	l := f.limits()
	cpus := hcsschema.Processor{
		Count:   min(l.count, f.vm.ProcessorCount()),
		Maximum: l.maximum,
		Weight:  l.weight,
	}
	n := 0
	for _, v := range []int32{cpus.Count, cpus.Maximum, cpus.Weight} {
		if v > 0 {
			n++
		}
	}
	if n > 1 {
		return fmt.Errorf("CPU count %d, limit %d and weight %d of a Windows container are mutually exclusive", l.count, l.maximum, l.weight)
	}
	if n == 1 {
		c.Processor = &cpus
	}
	if l.memoryMB > 0 {
		c.Memory = &hcsschema.Memory{SizeInMB: l.memoryMB}
	}
	if l.iops > 0 || l.bandwidth > 0 {
		c.Storage.QoS = &hcsschema.StorageQoS{IopsMaximum: l.iops, BandwidthMaximum: l.bandwidth}
	}
	if s.Windows != nil && s.Windows.Network != nil {
		w := s.Windows.Network
		c.Networking = &hcsschema.Networking{
			AllowUnqualifiedDnsQuery:   w.AllowUnqualifiedDNSQuery,
			DnsSearchList:              strings.Join(w.DNSSearchList, ","),
			NetworkSharedContainerName: w.NetworkSharedContainerName,
			Namespace:                  f.namespace,
		}
	}
	return nil
}

// limits are what a container may use; 0 is no limit.
type limits struct {
	count, maximum, weight, memoryMB, iops, bandwidth int32
}

// limits reads what the spec says. An annotation beats the spec's resources.
func (f *folders) limits() limits {
	var l limits
	if w := f.spec.Windows; w != nil && w.Resources != nil {
		r := w.Resources
		if c := r.CPU; c != nil {
			l.count, l.maximum, l.weight = size(c.Count), size(c.Maximum), size(c.Shares)
		}
		if m := r.Memory; m != nil && m.Limit != nil {
			mb := *m.Limit >> 20
			l.memoryMB = size(&mb)
		}
		if s := r.Storage; s != nil {
			l.iops, l.bandwidth = size(s.Iops), size(s.Bps)
		}
	}
	for name, v := range map[string]*int32{
		"processor.count":              &l.count,
		"processor.limit":              &l.maximum,
		"processor.weight":             &l.weight,
		"memory.sizeinmb":              &l.memoryMB,
		"storage.qos.iopsmaximum":      &l.iops,
		"storage.qos.bandwidthmaximum": &l.bandwidth,
	} {
		text, ok := f.spec.Annotations[annotationContainer+name]
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			slog.Warn("annotation without a number passed over", "container", f.config.ID, "annotation", annotationContainer+name, "value", text)
			continue
		}
		*v = int32(n)
	}
	return l
}

// size returns a number of the spec as the document has it; nil is 0.
func size[T uint16 | uint64](n *T) int32 {
	if n == nil {
		return 0
	}
	return int32(min(uint64(*n), math.MaxInt32))
}
