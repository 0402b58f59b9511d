// Package bootfiles makes the folder that a utility VM boots from: a kernel,
// an initrd and a root file system, out of a stock kernel package (or a kernel
// file and its modules), the guest agent and an OCI runtime.
//
// It needs no tool of the host: the package, the kernel image, the modules, the
// cpio archive and the file system are read and written in Go. The same inputs
// give the same bytes, on any host and at any time, and a folder is either
// complete or not there: [Build] writes beside it and swaps.
//
// # The folder
//
// docs/guest.md lists the files and what is in them. In short: vmlinux (for
// PVH, 3 s faster than the bzImage under emulation), kernel (the bzImage),
// initrd.img, rootfs.vhd, modules.img (the initrd that goes with rootfs.vhd)
// and manifest.json.
//
// # Modules
//
// A stock kernel has nearly everything as modules. Which ones are shipped, and
// which of them the agent inserts at boot, is one table: see wanted in
// table.go. What each of them needs is read from its .modinfo section, so
// neither depmod nor its files are used. The agent finds its way by
// /lib/modules/modules.byre, whose format is docs/guest.md's "Module index":
//
//	byre-modules 1 6.1.0-56-amd64
//	mod scsi_common /lib/modules/6.1.0-56-amd64/kernel/drivers/scsi/scsi_common.ko
//	mod scsi_mod /lib/modules/6.1.0-56-amd64/kernel/drivers/scsi/scsi_mod.ko deps=scsi_common args=scan=async
//	core scsi_common
//	core scsi_mod
//	alias fs_ext4 ext4
//
// Example:
//
//	m, err := bootfiles.Build(ctx, "/var/lib/byre/boot", bootfiles.Input{
//		KernelPackage: "linux-image-6.1.0-56-amd64_6.1.192-2_amd64.deb",
//		Agent:         "bin/gcs",
//		Runtime:       "bin/runc",
//	})
package bootfiles
