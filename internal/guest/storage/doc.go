// Package storage mounts what the host plugs into the VM: SCSI disks,
// persistent memory, shares, and the union of a container's layers.
//
// Devices are found where package place says they sit, never by the order in
// which the kernel saw them. Everything that waits has a deadline and is woken
// by the kernel's device events. The host names mount points, but a mount
// point is made and entered without following links: a folder beneath it may
// belong to a container.
package storage
