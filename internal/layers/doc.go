// Package layers turns OCI images into read-only disk images, one per layer,
// and makes the empty disks that containers write to.
//
// An image comes from an OCI layout folder, from an archive (docker save or
// OCI), or from a registry. Each layer becomes one ext4 disk with overlayfs
// whiteouts, named by the digest of the unpacked layer (its diff ID), so that
// all images, VMs and processes of a host that share a layer share one file.
// The disks are a multiple of 2 MiB long, so that they serve as persistent
// memory as well as SCSI disks. On Windows they have the footer of a fixed VHD
// behind that. The same layer gives the same bytes on every host of a kind.
//
// Images are hostile input. What is stored was checked against its digests,
// compressed and unpacked; sizes, counts and path lengths are bounded by
// [Config]; no path of an image is ever opened on the host.
//
// # The cache
//
//	layers/<key>.ext4   a disk (.vhd on Windows); <key>.json, its record: size, digest, times
//	images/<id>.json    a pulled reference: manifest and configuration
//	locks/<key>         held exclusively while <key> is made
//	tmp/<key>.*         files of whoever holds locks/<key>
//
// A disk is usable when it and its record are there; both appear by rename,
// the record last. A shared lock on a disk keeps it from being removed:
// [Image] holds one for each of its layers until [Image.Close]. Locks are the
// kernel's, so a killed process leaves none, and whatever it left in tmp is
// removed by the next [Open].
//
//	c, err := layers.Open(layers.Config{})
//	img, err := c.Get(ctx, "docker.io/library/alpine:3", layers.GetOptions{})
//	defer img.Close()
//	for _, l := range img.Layers { // base first
//		fmt.Println(l.Path)
//	}
package layers
