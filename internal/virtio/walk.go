//go:build linux

package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Descriptor flags (VIRTIO 1.2 §2.7.5).
const (
	descNext     = 1
	descWrite    = 2 // the device writes
	descIndirect = 4
)

const descLen = 16

// maxTable bounds the descriptors of an indirect table, as QEMU does.
const maxTable = 1024

// maxParts bounds the pieces of memory of a chain: one for each descriptor, and
// as many again where regions meet.
const maxParts = 2 * maxTable

// maxTotal is how long a chain may be (§2.7.5.3).
const maxTotal = 1 << 32

// A descriptor as it lies in the table: addr u64, len u32, flags u16, next u16.
type descriptor struct {
	addr   uint64
	length uint32
	flags  uint16
	next   uint16
}

// descriptorAt reads descriptor i of table, each member once.
func descriptorAt(table []byte, i int) descriptor {
	b := table[i*descLen : i*descLen+descLen]
	le := binary.LittleEndian
	return descriptor{le.Uint64(b), le.Uint32(b[8:]), le.Uint16(b[12:]), le.Uint16(b[14:])}
}

// A Buffer is one chain of descriptors that the driver made available. The guest
// can change what its memory holds at any time.
type Buffer struct {
	In   Segments // what the guest sent
	Out  Segments // where the device may write
	head uint16
}

// NewBuffer returns a buffer of other memory than a guest's, for tests.
func NewBuffer(in, out [][]byte) *Buffer {
	b := &Buffer{}
	for _, p := range in {
		b.In.add(p)
	}
	for _, p := range out {
		b.Out.add(p)
	}
	return b
}

// reset forgets the guest memory.
func (b *Buffer) reset() {
	b.In.reset()
	b.Out.reset()
}

var (
	errDescIndex    = errors.New("descriptor index out of range")
	errDescLoop     = errors.New("descriptor chain too long")
	errDescIndirect = errors.New("bad indirect descriptor")
	errDescOrder    = errors.New("readable descriptor after a writable one")
	errDescEmpty    = errors.New("empty descriptor")
	errDescLong     = errors.New("descriptor chain of too many bytes or pieces")
)

// walk collects the chain that starts at head (§2.7.4 to §2.7.6).
func (r *Ring) walk(head uint16, c *Buffer) error {
	table, n, left := r.desc, int(r.num), int(r.num)
	indirect := false
	for i := int(head); ; left-- {
		if i >= n {
			return errDescIndex
		}
		if left == 0 {
			return errDescLoop
		}
		d := descriptorAt(table, i)
		if d.flags&descIndirect != 0 {
			if indirect || !r.indirect || d.flags&descNext != 0 ||
				d.length == 0 || d.length%descLen != 0 || d.length/descLen > maxTable {
				return errDescIndirect
			}
			reg := r.region(d.addr)
			if reg == nil || uint64(d.length) > reg.size-(d.addr-reg.gpa) {
				return errDescIndirect
			}
			o := d.addr - reg.gpa
			table, n = reg.mem[o:o+uint64(d.length)], int(d.length/descLen)
			indirect, i, left = true, 0, n+1
			continue
		}
		if err := r.collect(&d, c); err != nil {
			return err
		}
		if d.flags&descNext == 0 {
			return nil
		}
		i = int(d.next)
	}
}

// collect adds the memory of one descriptor to c. Physically contiguous memory
// may lie in more than one region.
func (r *Ring) collect(d *descriptor, c *Buffer) error {
	write := d.flags&descWrite != 0
	if d.length == 0 {
		return errDescEmpty
	}
	if !write && len(c.Out.parts) > 0 {
		return errDescOrder
	}
	if uint64(c.In.left)+uint64(c.Out.left)+uint64(d.length) > maxTotal {
		return errDescLong
	}
	for addr, left := d.addr, uint64(d.length); left > 0; {
		reg := r.region(addr)
		if reg == nil || write && !reg.writable {
			return fmt.Errorf("descriptor for %d bytes at %#x: no such memory, or read-only", d.length, d.addr)
		}
		o := addr - reg.gpa
		n := min(left, reg.size-o)
		if len(c.In.parts)+len(c.Out.parts) == maxParts {
			return errDescLong
		}
		if p := reg.mem[o : o+n : o+n]; write {
			c.Out.add(p)
		} else {
			c.In.add(p)
		}
		addr, left = addr+n, left-n
	}
	return nil
}

// region returns the region at guest address gpa; most lookups repeat.
func (r *Ring) region(gpa uint64) *region {
	if r.last != nil && r.last.has(gpa) {
		return r.last
	}
	reg := r.mem.at(gpa)
	if reg != nil {
		r.last = reg
	}
	return reg
}
