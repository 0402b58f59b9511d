//go:build linux

package vhostuser

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

// A chain is one buffer that the driver made available. Its slices are guest
// memory: valid only under the lock of the ring that it came from, and the guest
// can change what they hold at any time.
type chain struct {
	head  uint16
	read  segments // what the guest sent
	write segments // where the device may write
}

// reset forgets the guest memory.
func (c *chain) reset() {
	c.read.reset()
	c.write.reset()
}

// segments is scattered guest memory with a cursor.
type segments struct {
	parts [][]byte
	next  int    // parts before it are used up
	left  uint64 // bytes not used up
}

func (s *segments) reset() {
	clear(s.parts)
	s.parts, s.next, s.left = s.parts[:0], 0, 0
}

func (s *segments) add(p []byte) {
	s.parts = append(s.parts, p)
	s.left += uint64(len(p))
}

// chunk returns the next at most n contiguous bytes and moves past them. It is
// empty when n is 0 or nothing is left.
func (s *segments) chunk(n int) []byte {
	if n == 0 || s.next == len(s.parts) {
		return nil
	}
	p := s.parts[s.next]
	if len(p) <= n {
		s.next++
	} else {
		s.parts[s.next] = p[n:]
		p = p[:n]
	}
	s.left -= uint64(len(p))
	return p
}

// take copies the next len(p) bytes to p; there must be so many.
func (s *segments) take(p []byte) {
	for len(p) > 0 {
		p = p[copy(p, s.chunk(len(p))):]
	}
}

// put copies p to the next len(p) bytes; there must be so many.
func (s *segments) put(p []byte) {
	for len(p) > 0 {
		p = p[copy(s.chunk(len(p)), p):]
	}
}

var (
	errDescIndex    = errors.New("descriptor index out of range")
	errDescLoop     = errors.New("descriptor chain too long")
	errDescIndirect = errors.New("bad indirect descriptor")
	errDescOrder    = errors.New("readable descriptor after a writable one")
	errDescEmpty    = errors.New("empty descriptor")
)

// walk collects the chain that starts at head (§2.7.4 to §2.7.6).
func (r *ring) walk(head uint16, c *chain) error {
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
func (r *ring) collect(d *descriptor, c *chain) error {
	write := d.flags&descWrite != 0
	if d.length == 0 {
		return errDescEmpty
	}
	if !write && len(c.write.parts) > 0 {
		return errDescOrder
	}
	for addr, left := d.addr, uint64(d.length); left > 0; {
		reg := r.region(addr)
		if reg == nil || write && !reg.writable {
			return fmt.Errorf("descriptor for %d bytes at %#x: no such memory, or read-only", d.length, d.addr)
		}
		o := addr - reg.gpa
		n := min(left, reg.size-o)
		if p := reg.mem[o : o+n : o+n]; write {
			c.write.add(p)
		} else {
			c.read.add(p)
		}
		addr, left = addr+n, left-n
	}
	return nil
}

// region returns the region at guest address gpa; most lookups repeat.
func (r *ring) region(gpa uint64) *region {
	if r.last != nil && r.last.has(gpa) {
		return r.last
	}
	reg := r.mem.at(gpa)
	if reg != nil {
		r.last = reg
	}
	return reg
}
