package bootfiles

// A want is one module that the image should have.
type want struct {
	name string
	core bool   // inserted at boot
	warm bool   // inserted in the background when the agent is up
	root bool   // also inserted by modules.img, to mount the root file system
	args string // parameter, since finit_module does not read the kernel's command line
	cpu  string // CPU flag without which inserting it fails
}

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
// The crct10dif algorithms are left out on purpose: crc_t10dif would pull them
// into the core set, and its built-in table does for a virtual disk.
var wanted = []want{
	{name: "virtio_ring", core: true},
	{name: "virtio", core: true},
	{name: "virtio_pci_modern_dev", core: true},
	{name: "virtio_pci_legacy_dev", core: true},
	{name: "virtio_pci", core: true},

	// Scanning all targets takes a third of the time of the whole core set, so
	// nobody waits for it. Without scanning (scan=manual) a kernel does not see
	// a disk that is plugged in at LUN 0 later.
	{name: "scsi_common", core: true},
	{name: "scsi_mod", core: true, args: "scan=async"},
	{name: "virtio_scsi", core: true, args: "async_probe"},
	{name: "crct10dif_common", core: true},
	{name: "crc64", core: true},
	{name: "crc_t10dif", core: true},
	{name: "crc64_rocksoft", core: true},
	{name: "t10_pi", core: true},
	{name: "sd_mod", core: true},

	{name: "vsock", core: true},
	{name: "vmw_vsock_virtio_transport_common", core: true},
	{name: "vmw_vsock_virtio_transport", core: true},

	{name: "overlay", core: true},

	{name: "libnvdimm", core: true},
	{name: "nd_virtio", core: true},
	{name: "virtio_pmem", core: true},
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
	{name: "virtio_net"},

	{name: "virtio_console"},
	{name: "virtio_balloon"},
	{name: "virtio_rng"},

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
	{name: "virtiofs"},

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
}
