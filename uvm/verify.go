package uvm

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/byrevm/byre/hcs"
)

// errOptions is the error of options that lack their common part.
var errOptions = errors.New("options must not be nil")

// normalize rounds and caps what the reference rounds and caps.
func (o *Options) normalize(host hcs.HostInfo, log *slog.Logger) {
	if n := int32(host.Processors); n > 0 && o.ProcessorCount > n {
		log.Warn("processor count lowered to that of the host", "asked", o.ProcessorCount, "have", n)
		o.ProcessorCount = n
	}
	if o.MemorySizeInMB&1 != 0 {
		log.Warn("memory size rounded up to an even number", "asked", o.MemorySizeInMB)
		o.MemorySizeInMB++
	}
}

// verify refuses values that have no meaning (spec §6 B5g).
func (o *Options) verify() error {
	for _, x := range []struct {
		name  string
		value int32
	}{
		{"MemorySizeInMB", o.MemorySizeInMB},
		{"ProcessorCount", o.ProcessorCount},
		{"ProcessorLimit", o.ProcessorLimit},
		{"ProcessorWeight", o.ProcessorWeight},
		{"StorageQoSIopsMaximum", o.StorageQoSIopsMaximum},
		{"StorageQoSBandwidthMaximum", o.StorageQoSBandwidthMaximum},
	} {
		if x.value < 0 {
			return fmt.Errorf("%s must not be negative, it is %d", x.name, x.value)
		}
	}
	if o.MemorySizeInMB == 1<<31-1 {
		return fmt.Errorf("MemorySizeInMB must be even, it is %d", o.MemorySizeInMB)
	}
	if o.EnableDeferredCommit && !o.AllowOvercommit {
		return errors.New("EnableDeferredCommit needs AllowOvercommit")
	}
	return nil
}

// verify checks options for a host (spec §1.3). The order of checks is the
// order in which their errors win.
func (o *OptionsLCOW) verify(host hcs.HostInfo) error {
	if err := o.Options.verify(); err != nil {
		return err
	}
	if p := o.kernelPath(); absent(p) {
		return missing("kernel", p)
	}
	if p := o.rootFSPath(); absent(p) {
		return missing("boot file", p)
	}
	switch {
	case o.SCSIControllerCount > 1:
		return errors.New("SCSI controller count must be 0 or 1")
	case o.AllSCSIControllers && o.SCSIControllerCount == 0:
		return errors.New("AllSCSIControllers needs a SCSI controller count of 1")
	case o.VPMemDeviceCount > MaxVPMEMCount:
		return fmt.Errorf("vpmem device count cannot be greater than %d", MaxVPMEMCount)
	case o.VPMemDeviceCount > 0 && o.VPMemSizeBytes%4096 != 0:
		return errors.New("opts.VPMemSizeBytes must be a multiple of 4096")
	case o.VPMemDeviceCount == 0 && o.PreferredRootFSType == PreferredRootFSTypeVHD:
		return errors.New("PreferredRootFSTypeVHD requires at least one VPMem device")
	case o.PreferredRootFSType != PreferredRootFSTypeInitRd && o.PreferredRootFSType != PreferredRootFSTypeVHD:
		return fmt.Errorf("PreferredRootFSType %d does not exist", o.PreferredRootFSType)
	case o.KernelDirect && host.Build < buildKernelDirect:
		return fmt.Errorf("KernelDirectBoot is not supported on builds older than %d: %w", buildKernelDirect, hcs.ErrNotSupported)
	case o.EnableColdDiscardHint && host.Build < buildColdDiscard:
		return fmt.Errorf("EnableColdDiscardHint is not supported on builds older than %d: %w", buildColdDiscard, hcs.ErrNotSupported)
	}
	return nil
}

func (o *OptionsLCOW) kernelPath() string { return filepath.Join(o.BootFilesPath, o.KernelFile) }
func (o *OptionsLCOW) rootFSPath() string { return filepath.Join(o.BootFilesPath, o.RootFSFile) }

// absent reports whether there is nothing at path. A path that cannot be
// looked at is left to the engine, whose error says more.
func absent(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist)
}
