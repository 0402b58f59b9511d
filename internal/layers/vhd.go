package layers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Where disks are VHDs (Virtual Hard Disk Image Format Specification 1.0),
// those of layers are fixed ones, the content and a footer, and scratch disks
// are dynamic ones, because nothing else leaves room untaken there:
//
//	0     copy of the footer
//	512   header: where the table is
//	1536  table: the sector of each block of 2 MiB, or all ones
//	...   blocks: a sector of ones (all of the block is there), and the content
//	end   footer
//
// Numbers are big-endian.
const (
	vhdSector  = 512
	vhdBlock   = 2 << 20
	vhdMax     = 2040 << 30
	vhdHeader  = 1024
	vhdNothing = 0xffffffff // of the table

	vhdFixed   = 2
	vhdDynamic = 3
)

var vhdBE = binary.BigEndian

// vhdFooter returns the footer of a VHD of a type for size bytes, or for the
// next whole sector.
func vhdFooter(kind uint32, size int64, id [16]byte) []byte {
	b := make([]byte, vhdSector)
	copy(b, "conectix")
	vhdBE.PutUint32(b[8:], 2)        // features: the bit that is always set
	vhdBE.PutUint32(b[12:], 0x10000) // version
	vhdBE.PutUint64(b[16:], 1<<64-1) // data offset: none
	if kind == vhdDynamic {
		vhdBE.PutUint64(b[16:], vhdSector)
	}
	copy(b[28:], "win ") // creator: one whose sizes are not rounded to the geometry
	vhdBE.PutUint32(b[32:], 0x60001)
	copy(b[36:], "Wi2k")
	vhdBE.PutUint64(b[40:], uint64(size)) // original size, and the current one
	vhdBE.PutUint64(b[48:], uint64(size))
	cylinders, heads, sectors := vhdGeometry(size)
	vhdBE.PutUint16(b[56:], cylinders)
	b[58], b[59] = heads, sectors
	vhdBE.PutUint32(b[60:], kind)
	copy(b[68:], id[:])
	vhdSum(b, 64)
	return b
}

// vhdSum puts the sum of a structure into it: the complement of its bytes.
func vhdSum(b []byte, at int) {
	sum := uint32(0)
	for _, c := range b {
		sum += uint32(c)
	}
	vhdBE.PutUint32(b[at:], ^sum)
}

// vhdGeometry is the appendix of the specification.
func vhdGeometry(size int64) (cylinders uint16, heads, sectors byte) {
	total := min(size/vhdSector, 65535*16*255)
	s, h := int64(255), int64(16)
	tracks := total / s
	if total < 65535*16*63 {
		s = 17
		tracks = total / s
		h = max(4, (tracks+1023)/1024)
		if tracks >= h*1024 || h > 16 {
			s, h = 31, 16
			tracks = total / s
		}
		if tracks >= h*1024 {
			s, h = 63, 16
			tracks = total / s
		}
	}
	return uint16(tracks / h), byte(h), byte(s)
}

// appendFooter makes a disk a fixed VHD.
func appendFooter(f *os.File, id [16]byte) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	_, err = f.Write(vhdFooter(vhdFixed, size, id))
	return err
}

// A dynamicVHD writes a file as a dynamic VHD. What is written once is there;
// zeros that are written first take no room.
type dynamicVHD struct {
	f     *os.File
	size  int64
	table []uint32
	next  int64 // where the next block begins
}

func newDynamicVHD(f *os.File, size int64) (*dynamicVHD, error) {
	if size > vhdMax {
		return nil, fmt.Errorf("%w: a VHD has no more than %d bytes", ErrInvalid, int64(vhdMax))
	}
	d := &dynamicVHD{f: f, size: size, table: make([]uint32, (size+vhdBlock-1)/vhdBlock)}
	for i := range d.table {
		d.table[i] = vhdNothing
	}
	d.next = vhdSector + vhdHeader + d.tableSize()
	return d, nil
}

// tableSize is what the table takes: whole sectors.
func (d *dynamicVHD) tableSize() int64 {
	return (int64(len(d.table))*4 + vhdSector - 1) / vhdSector * vhdSector
}

// WriteAt implements io.WriterAt.
func (d *dynamicVHD) WriteAt(p []byte, off int64) (done int, err error) {
	if off < 0 || off+int64(len(p)) > d.size {
		return 0, io.ErrShortWrite
	}
	for done < len(p) {
		block, in := off/vhdBlock, off%vhdBlock
		part := p[done:min(len(p), done+int(vhdBlock-in))]
		if d.table[block] == vhdNothing && !isZero(part) {
			if err := d.allocate(block); err != nil {
				return done, err
			}
		}
		if d.table[block] != vhdNothing {
			n, err := d.f.WriteAt(part, int64(d.table[block])*vhdSector+vhdSector+in)
			if err != nil {
				return done + n, err
			}
		}
		done += len(part)
		off += int64(len(part))
	}
	return done, nil
}

func (d *dynamicVHD) allocate(block int64) error {
	if _, err := d.f.WriteAt(bytes.Repeat([]byte{0xff}, vhdSector), d.next); err != nil {
		return err
	}
	d.table[block] = uint32(d.next / vhdSector)
	d.next += vhdSector + vhdBlock
	return d.f.Truncate(d.next)
}

// finish writes what is around the blocks.
func (d *dynamicVHD) finish(id [16]byte) error {
	footer := vhdFooter(vhdDynamic, d.size, id)
	h := make([]byte, vhdHeader)
	copy(h, "cxsparse")
	vhdBE.PutUint64(h[8:], 1<<64-1) // data offset: none
	vhdBE.PutUint64(h[16:], vhdSector+vhdHeader)
	vhdBE.PutUint32(h[24:], 0x10000) // version
	vhdBE.PutUint32(h[28:], uint32(len(d.table)))
	vhdBE.PutUint32(h[32:], vhdBlock)
	vhdSum(h, 36)
	table := bytes.Repeat([]byte{0xff}, int(d.tableSize()))
	for i, sector := range d.table {
		vhdBE.PutUint32(table[4*i:], sector)
	}
	_, err1 := d.f.WriteAt(append(append(bytes.Clone(footer), h...), table...), 0)
	_, err2 := d.f.WriteAt(footer, d.next)
	return errors.Join(err1, err2)
}
