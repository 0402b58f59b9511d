package qemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/byrevm/byre/hcs"
)

// Places and signatures of a VHDX file ([MS-VHDX] 2.2).
const (
	vhdxRegionTable   = 192 << 10
	vhdxTableSize     = 64 << 10
	vhdxMinSize       = 1 << 20 // the header section
	vhdxMaxMetadata   = 64 << 20
	vhdxHasParent     = 1 << 1
	vhdxEntrySize     = 32
	vhdxMaxEntries    = 2047
	vhdxRegionCookie  = "regi"
	vhdxMetadataWords = "metadata"
)

var (
	// GUIDs as they lie in the file: mixed-endian.
	vhdxMetadataRegion = []byte{0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e}
	vhdxFileParameters = []byte{0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b}
)

var errVHDX = errors.New("VHDX is damaged or truncated")

// checkVHDX refuses a VHDX that has a parent, which is another file of the
// host, and one whose tables cannot be read. QEMU checks the rest.
func checkVHDX(r io.ReaderAt, size int64) error {
	if size < vhdxMinSize {
		return errVHDX
	}
	at, length, err := vhdxRegion(r)
	if err != nil {
		return err
	}
	if at < vhdxMinSize || length > vhdxMaxMetadata || at > size || length > size-at {
		return errVHDX
	}
	table, err := readTable(r, at, vhdxMetadataWords, 10)
	if err != nil {
		return err
	}
	for e := range entries(table) {
		if !bytes.Equal(e[:16], vhdxFileParameters) {
			continue
		}
		off := int64(binary.LittleEndian.Uint32(e[16:]))
		if off > length-8 {
			return errVHDX
		}
		var p [8]byte
		if _, err := r.ReadAt(p[:], at+off); err != nil {
			return errVHDX
		}
		if binary.LittleEndian.Uint32(p[4:])&vhdxHasParent != 0 {
			return fmt.Errorf("%w: differencing VHDX, which has a parent", hcs.ErrNotSupported)
		}
		return nil
	}
	return errVHDX
}

// vhdxRegion finds the metadata region.
func vhdxRegion(r io.ReaderAt) (at, length int64, err error) {
	// signature 4, checksum 4, count 4, reserved 4
	table, err := readTable(r, vhdxRegionTable, vhdxRegionCookie, 8)
	if err != nil {
		return 0, 0, err
	}
	for e := range entriesAfter(table, 16) {
		if bytes.Equal(e[:16], vhdxMetadataRegion) {
			off := binary.LittleEndian.Uint64(e[16:])
			if off > 1<<62 {
				return 0, 0, errVHDX
			}
			return int64(off), int64(binary.LittleEndian.Uint32(e[24:])), nil
		}
	}
	return 0, 0, errVHDX
}

// readTable reads a table and cuts it behind the number of entries that it
// has at countAt.
func readTable(r io.ReaderAt, at int64, cookie string, countAt int) ([]byte, error) {
	b := make([]byte, vhdxTableSize)
	if _, err := r.ReadAt(b, at); err != nil || !bytes.HasPrefix(b, []byte(cookie)) {
		return nil, errVHDX
	}
	n := int(binary.LittleEndian.Uint16(b[countAt:]))
	if n > vhdxMaxEntries {
		return nil, errVHDX
	}
	header := vhdxEntrySize
	if cookie == vhdxRegionCookie {
		header = 16
	}
	return b[:min(len(b), header+n*vhdxEntrySize)], nil
}

func entries(table []byte) func(func([]byte) bool) { return entriesAfter(table, vhdxEntrySize) }

func entriesAfter(table []byte, header int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for at := header; at+vhdxEntrySize <= len(table); at += vhdxEntrySize {
			if !yield(table[at : at+vhdxEntrySize]) {
				return
			}
		}
	}
}
