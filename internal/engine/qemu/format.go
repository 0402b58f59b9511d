package qemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/byrevm/byre/hcs"
)

// A format is how a disk image is laid out.
type format int

const (
	formatRaw   format = iota
	formatFixed        // fixed VHD: the content, then a footer
	formatDynamic
	formatVHDX
)

func (f format) String() string {
	return [...]string{"raw", "fixed VHD", "dynamic VHD", "VHDX"}[f]
}

// An image is a disk image as its content tells.
type image struct {
	format format
	size   int64 // of the disk; 0 for VHDX, which QEMU reads itself
}

const (
	sector     = 512
	vhdCookie  = "conectix"
	vhdxCookie = "vhdxfile"
	vhdFixed   = 2
	vhdDynamic = 3
	vhdDiff    = 4
)

// Formats that QEMU knows and this engine does not open: some of them name
// other files of the host.
var foreign = map[string]string{
	"QFI\xfb":                           "QCOW",
	"KDMV":                              "VMDK",
	"# Disk DescriptorFile":             "VMDK",
	"<<< Oracle VM VirtualBox Disk":     "VDI",
	"<<< QEMU VM Virtual Disk Image":    "VDI",
	"QED\x00":                           "QED",
	"LUKS\xba\xbe":                      "LUKS",
	"WithoutFreeSpace":                  "Parallels",
	"WithouFreSpacExt":                  "Parallels",
	"Bochs Virtual HD Image":            "Bochs",
	"#!/bin/sh\n#V2.0 Format\nmodprobe": "cloop",
}

// probe tells the format of an image of size bytes. name is only used in
// errors, and to tell a truncated VHD from a raw disk.
func probe(r io.ReaderAt, size int64, name string) (image, error) {
	head := make([]byte, sector)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return image{}, err
	}
	head = head[:n]
	if size == 0 {
		return image{}, errors.New("disk image is empty")
	}
	for magic, kind := range foreign {
		if bytes.HasPrefix(head, []byte(magic)) {
			return image{}, fmt.Errorf("%w: disk image of the kind %s", hcs.ErrNotSupported, kind)
		}
	}
	if bytes.HasPrefix(head, []byte(vhdxCookie)) {
		return image{format: formatVHDX}, checkVHDX(r, size)
	}
	footer := make([]byte, sector)
	if size >= sector {
		if _, err := r.ReadAt(footer, size-sector); err != nil {
			return image{}, err
		}
	}
	switch {
	case bytes.HasPrefix(footer, []byte(vhdCookie)):
		return probeVHD(footer, size)
	case bytes.HasPrefix(head, []byte(vhdCookie)):
		return image{}, errors.New("VHD is truncated: its footer is missing")
	}
	switch ext := strings.ToLower(filepath.Ext(name)); {
	case ext == ".vhd" || ext == ".vhdx":
		return image{}, fmt.Errorf("%s has no %s signature: truncated or not a disk image", filepath.Base(name), strings.ToUpper(ext[1:]))
	case isText(head):
		return image{}, errors.New("text file, not a disk image")
	case size%sector != 0:
		return image{}, fmt.Errorf("%d bytes are not a disk: not a multiple of %d", size, sector)
	}
	return image{format: formatRaw, size: size}, nil
}

// probeVHD reads the footer of a VHD (Virtual Hard Disk Image Format
// Specification 1.0, "Hard Disk Footer Format"), big-endian:
//
//	0 cookie  8 features  12 version  16 data offset  24 time  28 creator ...
//	40 original size  48 current size  56 geometry  60 type  64 checksum
func probeVHD(footer []byte, size int64) (image, error) {
	want := binary.BigEndian.Uint32(footer[64:])
	var sum uint32
	for i, b := range footer {
		if i < 64 || i >= 68 {
			sum += uint32(b)
		}
	}
	if ^sum != want {
		return image{}, errors.New("VHD is damaged: the checksum of its footer is wrong")
	}
	current := binary.BigEndian.Uint64(footer[48:])
	if current == 0 || current > 1<<62 || current%sector != 0 {
		return image{}, fmt.Errorf("VHD is damaged: size %d", current)
	}
	switch t := binary.BigEndian.Uint32(footer[60:]); t {
	case vhdFixed:
		if size != int64(current)+sector {
			return image{}, fmt.Errorf("VHD is truncated: %d bytes, where its footer says %d", size-sector, current)
		}
		return image{format: formatFixed, size: int64(current)}, nil
	case vhdDynamic:
		return image{format: formatDynamic, size: int64(current)}, nil
	case vhdDiff:
		return image{}, fmt.Errorf("%w: differencing VHD, which has a parent", hcs.ErrNotSupported)
	default:
		return image{}, fmt.Errorf("%w: VHD of type %d", hcs.ErrNotSupported, t)
	}
}

// isText reports whether a whole first sector is text.
func isText(head []byte) bool {
	for _, b := range head {
		if (b < ' ' || b == 0x7f) && b != '\n' && b != '\r' && b != '\t' {
			return false
		}
	}
	return len(head) > 0
}
