package hcsschema

// Topology is the memory and the processors of a VM.
type Topology struct {
	Memory    *Memory2    `json:"Memory,omitempty"`
	Processor *Processor2 `json:"Processor,omitempty"`
}

// Memory2 is the memory of a VM. SizeInMB 0 leaves the size to the engine.
type Memory2 struct {
	SizeInMB int32 `json:"SizeInMB,omitempty"`
	// AllowOvercommit false backs the VM with physical memory.
	AllowOvercommit bool `json:"AllowOvercommit,omitempty"`
	// EnableHotHint lets the host fetch pages near a page fault; a Windows
	// guest with AllowOvercommit only.
	EnableHotHint  bool `json:"EnableHotHint,omitempty"`
	EnableColdHint bool `json:"EnableColdHint,omitempty"`
	EnableEpf      bool `json:"EnableEpf,omitempty"`
	// EnableDeferredCommit takes memory from the host only when it is
	// touched; it needs AllowOvercommit.
	EnableDeferredCommit bool `json:"EnableDeferredCommit,omitempty"`
	// EnableColdDiscardHint lets the guest tell which pages it no longer
	// needs.
	EnableColdDiscardHint bool   `json:"EnableColdDiscardHint,omitempty"`
	LowMmioGapInMB        uint64 `json:"LowMmioGapInMB,omitempty"`
	HighMmioBaseInMB      uint64 `json:"HighMmioBaseInMB,omitempty"`
	HighMmioGapInMB       uint64 `json:"HighMmioGapInMB,omitempty"`
}

// Processor2 is the processors of a VM. Zero leaves a member to the engine.
type Processor2 struct {
	Count int32 `json:"Count,omitempty"`
	// Limit caps each processor, in 1/1000 of a percent (100000 is all of
	// it).
	Limit int32 `json:"Limit,omitempty"`
	// Weight is the share against other VMs when processors are short.
	Weight                         int32 `json:"Weight,omitempty"`
	ExposeVirtualizationExtensions bool  `json:"ExposeVirtualizationExtensions,omitempty"`
}

// ProcessorLimits are what a running VM gets of the host's processors: the
// settings of the resource path of the limits. Zero leaves a member as it is.
type ProcessorLimits struct {
	// Limit caps each processor, in 1/1000 of a percent (100000 is all of
	// it).
	Limit uint64 `json:"Limit,omitempty"`
	// Weight is the share against other VMs when processors are short.
	Weight uint64 `json:"Weight,omitempty"`
	// Reservation is what is kept free for this VM, in 1/1000 of a percent.
	Reservation         uint64 `json:"Reservation,omitempty"`
	MaximumFrequencyMHz uint32 `json:"MaximumFrequencyMHz,omitempty"`
}
