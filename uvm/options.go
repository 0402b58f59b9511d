package uvm

import (
	"io"

	"github.com/byrevm/byre/hcs"
	"github.com/byrevm/byre/hns"
)

const (
	// MaxVPMEMCount is the largest number of persistent-memory devices that a
	// utility VM can have.
	MaxVPMEMCount = 128

	// DefaultVPMEMCount is the number of persistent-memory devices in
	// [NewDefaultOptionsLCOW].
	DefaultVPMEMCount = 64

	// DefaultVPMemSizeBytes is the largest size of a persistent-memory device
	// in [NewDefaultOptionsLCOW].
	DefaultVPMemSizeBytes = 4 * 1024 * 1024 * 1024
)

// Names of the files in OptionsLCOW.BootFilesPath.
const (
	// InitrdFile is an initial RAM disk.
	InitrdFile = "initrd.img"
	// VhdFile is a root file system in a virtual disk.
	VhdFile = "rootfs.vhd"
	// KernelFile is a kernel.
	KernelFile = "kernel"
	// UncompressedKernelFile is a kernel as the linker made it, which boots
	// fastest where it can be used.
	UncompressedKernelFile = "vmlinux"
)

// Options are what all utility VMs have in common. NewDefaultOptionsLCOW and
// NewDefaultOptionsWCOW make them; the zero value of most members is not
// their default.
type Options struct {
	// ID names the utility VM. If it is empty, Create draws a GUID and stores
	// it here.
	ID string
	// Owner is the name of who made it, for those who look at the host.
	Owner string

	// AdditionHCSDocumentJSON is a JSON object that is merged into the
	// document of the VM: its members win.
	AdditionHCSDocumentJSON string

	// MemorySizeInMB is the memory of the VM, in MiB, rounded up to an even
	// number. 0 is the engine's default.
	MemorySizeInMB int32

	LowMMIOGapInMB   uint64
	HighMMIOBaseInMB uint64
	HighMMIOGapInMB  uint64

	// AllowOvercommit false takes the whole memory from the host when the VM
	// starts.
	AllowOvercommit bool
	// EnableDeferredCommit accounts for memory only when the guest touches
	// it. It needs AllowOvercommit.
	EnableDeferredCommit bool

	// ProcessorCount is the number of virtual processors, at most that of the
	// host. 0 is the engine's default.
	ProcessorCount int32
	// ProcessorLimit caps each of them, in 1/1000 percent. 0 is no limit.
	ProcessorLimit int32
	// ProcessorWeight is the share against other VMs when processors are
	// short. 0 is the engine's default.
	ProcessorWeight int32

	// StorageQoSIopsMaximum and StorageQoSBandwidthMaximum (bytes a second)
	// limit all disks together. 0 is no limit.
	StorageQoSIopsMaximum      int32
	StorageQoSBandwidthMaximum int32

	// ExternalGuestConnection says that this package speaks to the guest. If
	// it is false the engine does, which not every engine can.
	ExternalGuestConnection bool

	// Engine makes the VM; nil is the engine of this host.
	Engine hcs.Engine `json:"-"`
	// Network is where endpoints and namespaces are looked up; nil is that of
	// this host.
	Network hns.Network `json:"-"`
}

// A PreferredRootFSType says what a Linux guest boots from.
type PreferredRootFSType int

const (
	// PreferredRootFSTypeInitRd boots from an initial RAM disk.
	PreferredRootFSTypeInitRd PreferredRootFSType = iota
	// PreferredRootFSTypeVHD boots from a virtual disk, which is
	// persistent-memory device 0.
	PreferredRootFSTypeVHD
)

// An OutputHandler reads what the programs of the guest print until it ends.
// It runs in a goroutine of its own; [UtilityVM.Wait] and [UtilityVM.Close]
// wait for it.
type OutputHandler func(io.Reader)

// OptionsLCOW describe a utility VM for Linux containers.
type OptionsLCOW struct {
	*Options

	// BootFilesPath is the folder of kernel and root file system.
	BootFilesPath string
	// KernelFile is the name of the kernel in BootFilesPath.
	KernelFile string
	// KernelDirect boots the kernel without firmware.
	KernelDirect bool
	// RootFSFile is the name of the root file system in BootFilesPath.
	RootFSFile string
	// KernelBootOptions are added to the kernel's command line.
	KernelBootOptions string

	// EnableGraphicsConsole gives the VM a screen and a keyboard.
	EnableGraphicsConsole bool
	// ConsolePipe is where the first serial port leads to: a named pipe on
	// Windows, a socket on Linux. If there is a console of either kind the
	// guest also runs a shell on it.
	ConsolePipe string

	// SCSIControllerCount is 0 or 1.
	SCSIControllerCount uint32
	// AllSCSIControllers uses all four controllers, for 256 disks. It needs
	// SCSIControllerCount 1.
	AllSCSIControllers bool `json:",omitempty"`

	// UseGuestConnection false makes a VM whose guest has no agent.
	UseGuestConnection bool
	// ExecCommandLine is the command that the guest runs: its agent.
	ExecCommandLine string
	// ForwardStdout and ForwardStderr lead its output to OutputHandler.
	ForwardStdout bool
	ForwardStderr bool
	// OutputHandler gets that output. nil logs it with log/slog, see
	// [LogOutput].
	OutputHandler OutputHandler `json:"-"`

	// VPMemDeviceCount is the number of persistent-memory devices, at most
	// [MaxVPMEMCount], including the one that the guest boots from.
	VPMemDeviceCount uint32
	// VPMemSizeBytes is the largest size of each, a multiple of 4096.
	VPMemSizeBytes uint64

	// PreferredRootFSType says what kind of file RootFSFile is.
	PreferredRootFSType PreferredRootFSType

	// EnableColdDiscardHint lets the guest tell which memory it no longer
	// needs.
	EnableColdDiscardHint bool
	// VPCIEnabled leaves PCI on in the guest, for [UtilityVM.AssignDevice].
	VPCIEnabled bool
}

// OptionsWCOW describe a utility VM for Windows containers.
type OptionsWCOW struct {
	*Options

	// LayerFolders are the folders of its layers: the top-most read-only one
	// first, the base last but one, the scratch folder last. The caller must
	// set it.
	LayerFolders []string
}

// A VMAccessType says who is given access to a file that is attached.
type VMAccessType int

const (
	// VMAccessTypeNoop gives none: whoever made the file has seen to it.
	VMAccessTypeNoop VMAccessType = iota
	// VMAccessTypeGroup gives access to every VM of the host.
	VMAccessTypeGroup
	// VMAccessTypeIndividual gives access to this VM.
	VMAccessTypeIndividual
)
