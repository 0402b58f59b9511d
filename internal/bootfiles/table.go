package bootfiles

// A want is one module that the image should have.
type want struct {
	name string
	core bool   // inserted at boot
	warm bool   // inserted in the background when the agent is up
	root bool   // also inserted by modules.img, to mount the root file system
	args string // parameter, since finit_module does not read the kernel's command line
	cpu  string // CPU flag without which inserting it fails
	on   string // the kind of machine that it is wanted on, "" for any
}

// The kinds of machines. Hyper-V has its devices on a VMBus; every other is
// taken to have them on PCI.
const (
	virtio = "virtio"
	hyperV = "hyperv"
)

// wanted is the list of modules, in the order in which they are inserted.
//
// Core is what every VM needs before its first container: the PCI transport,
// SCSI, vsock, overlay and persistent memory. File bytes cost nothing at boot,
// inserting does (a fifth of the boot time for all of them), so the rest waits
// until the kernel or the agent asks for it.
//
// The file systems are warm: every container mounts them, and ext4 alone takes
// half as long as the core set, which the agent can spend while the host makes
// the layers ready.
//
// What a module depends on is inserted before it and need not be listed, but a
// module that is not listed costs another pass over the kernel package.
//
// A machine on Hyper-V has none of virtio's devices, and the others none of
// Hyper-V's, so that neither waits for what the other needs. It is more than a
// matter of time with vsock: the kernel has room for one transport towards the
// host, and the first that is inserted has it, whether it has a device or not.
//
// The crct10dif algorithms are left out on purpose: crc_t10dif would pull them
// into the core set, and its built-in table does for a virtual disk.
var wanted = []want{
	{name: "virtio_ring", core: true, on: virtio},
	{name: "virtio", core: true, on: virtio},
	{name: "virtio_pci_modern_dev", core: true, on: virtio},
	{name: "virtio_pci_legacy_dev", core: true, on: virtio},
	{name: "virtio_pci", core: true, on: virtio},

	{name: "hv_vmbus", core: true, on: hyperV},

	// Scanning all targets takes a third of the time of the whole core set, so
	// nobody waits for it. Without scanning (scan=manual) a kernel does not see
	// a disk that is plugged in at LUN 0 later.
	{name: "scsi_common", core: true},
	{name: "scsi_mod", core: true, args: "scan=async"},
	{name: "virtio_scsi", core: true, args: "async_probe", on: virtio},
	{name: "crct10dif_common", core: true},
	{name: "crc64", core: true},
	{name: "crc_t10dif", core: true},
	{name: "crc64_rocksoft", core: true},
	{name: "t10_pi", core: true},
	{name: "sd_mod", core: true},

	{name: "scsi_transport_fc", core: true, on: hyperV},
	{name: "hv_storvsc", core: true, on: hyperV},

	{name: "vsock", core: true},
	{name: "vmw_vsock_virtio_transport_common", core: true, on: virtio},
	{name: "vmw_vsock_virtio_transport", core: true, on: virtio},
	{name: "hv_sock", core: true, on: hyperV},

	{name: "overlay", core: true},

	{name: "libnvdimm", core: true},
	{name: "nd_virtio", core: true, on: virtio},
	{name: "virtio_pmem", core: true, on: virtio},
	{name: "nfit", core: true, on: hyperV}, // persistent memory by ACPI's tables
	{name: "nd_btt", core: true},
	{name: "nd_pmem", core: true},

	// The fast checksum first: the file systems bind to the best there is.
	{name: "crc32c_intel", cpu: "sse4_2"},
	{name: "crc32c_generic"},
	{name: "libcrc32c"},
	{name: "erofs", warm: true},
	{name: "jbd2"},
	{name: "mbcache"},
	{name: "crc16"},
	{name: "ext4", warm: true, root: true},
	{name: "squashfs"},

	{name: "netfs"},
	{name: "fscache"},
	{name: "9pnet"},
	{name: "9p"},
	{name: "9pnet_fd"},

	{name: "failover"},
	{name: "net_failover"},
	{name: "virtio_net", on: virtio},

	// Integration services (shutdown, time, heartbeat), memory that is taken
	// back, assigned devices.
	{name: "hv_netvsc", on: hyperV},
	{name: "hv_utils", on: hyperV},
	{name: "hv_balloon", on: hyperV},
	{name: "pci_hyperv_intf", on: hyperV},
	{name: "pci_hyperv", on: hyperV},

	{name: "virtio_console", on: virtio},
	{name: "virtio_balloon", on: virtio},
	{name: "virtio_rng", on: virtio},

	{name: "reed_solomon"},
	{name: "dm_mod"},
	{name: "dm_bufio"},
	{name: "dm_verity"},

	{name: "veth"},
	{name: "llc"},
	{name: "stp"},
	{name: "bridge"},
	{name: "br_netfilter"},
	{name: "tun"},

	{name: "fuse"},
	{name: "virtiofs", on: virtio},

	{name: "nfnetlink"},
	{name: "nf_tables"},
	{name: "nf_defrag_ipv4"},
	{name: "nf_defrag_ipv6"},
	{name: "nf_conntrack"},
	{name: "nf_nat"},
	{name: "nft_chain_nat"},
	{name: "nft_masq"},
	{name: "nft_ct"},
	{name: "x_tables"},
	{name: "nft_compat"},

	{name: "loop"},
	{name: "vsock_loopback"},

	// The screen of a machine that has one.
	{name: "drm"},
	{name: "drm_kms_helper"},
	{name: "ttm"},
	{name: "drm_ttm_helper"},
	{name: "drm_vram_helper"},
	{name: "bochs"},
	{name: "drm_shmem_helper", on: hyperV},
	{name: "hyperv_drm", on: hyperV},
	{name: "hyperv_keyboard", on: hyperV},
}
