package bootfiles

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// writeVmlinux writes the kernel that is packed in a bzImage as an ELF file
// that QEMU boots by its PVH note: the program headers and what they load, with
// neither sections nor the zeros at the segments' ends, which a loader fills in
// anyway. That halves the file.
func writeVmlinux(w *output, image []byte) error {
	raw, err := payload(w.ctx, image)
	if err != nil {
		return err
	}
	small, err := trim(raw)
	if err != nil {
		return err
	}
	_, err = w.Write(small)
	return err
}

const (
	ehdrSize = 64
	phdrSize = 56
	page     = 4096
	maxProgs = 64
)

// trim returns the smallest ELF file that loads the same.
func trim(raw []byte) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("the unpacked kernel is no ELF file: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC {
		return nil, fmt.Errorf("the unpacked kernel is %v %v, want %v %v", f.Type, f.Machine, elf.ET_EXEC, elf.EM_X86_64)
	}
	if len(f.Progs) > maxProgs {
		return nil, fmt.Errorf("the unpacked kernel has %d segments, more than the limit of %d", len(f.Progs), maxProgs)
	}
	for _, p := range f.Progs {
		if p.Off > uint64(len(raw)) || p.Filesz > uint64(len(raw))-p.Off {
			return nil, errors.New("the unpacked kernel is damaged: a segment is not in the file")
		}
	}
	if !hasPVH(f, raw) {
		return nil, &unusableError{"the kernel has no PVH entry (CONFIG_PVH)"}
	}

	out := make([]byte, ehdrSize+phdrSize*len(f.Progs))
	copy(out, raw[:ehdrSize])
	le := binary.LittleEndian
	le.PutUint64(out[32:], ehdrSize)             // e_phoff
	le.PutUint64(out[40:], 0)                    // e_shoff
	le.PutUint16(out[54:], phdrSize)             // e_phentsize
	le.PutUint16(out[56:], uint16(len(f.Progs))) // e_phnum
	copy(out[58:64], []byte{64, 0, 0, 0, 0, 0})  // e_shentsize, e_shnum, e_shstrndx
	moved := make(map[int]uint64, len(f.Progs))  // segment -> its new offset
	for i, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		body := bytes.TrimRight(raw[p.Off:p.Off+p.Filesz], "\x00")
		keep := keepWithin(f, p, uint64(len(body)))
		// The offset and the address agree modulo a page, as ELF wants it.
		at := uint64(len(out))
		at += (p.Vaddr - at) % page
		out = append(out, make([]byte, at-uint64(len(out)))...)
		out = append(out, raw[p.Off:p.Off+keep]...)
		moved[i] = at
		putProg(out[ehdrSize+i*phdrSize:], p.ProgHeader, at, keep)
	}
	for i, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			continue
		}
		at, ok := uint64(0), p.Filesz == 0
		for j, l := range f.Progs {
			if l.Type == elf.PT_LOAD && p.Filesz > 0 && p.Off >= l.Off && p.Off+p.Filesz <= l.Off+l.Filesz {
				at, ok = moved[j]+p.Off-l.Off, true
				break
			}
		}
		if !ok {
			at = (uint64(len(out)) + 7) &^ 7
			out = append(out, make([]byte, at-uint64(len(out)))...)
			out = append(out, raw[p.Off:p.Off+p.Filesz]...)
		}
		putProg(out[ehdrSize+i*phdrSize:], p.ProgHeader, at, p.Filesz)
	}
	return out, nil
}

// keepWithin is how many of a load segment's bytes must stay: n, or more when
// another header points into it.
func keepWithin(f *elf.File, l *elf.Prog, n uint64) uint64 {
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD && p.Off >= l.Off && p.Off+p.Filesz <= l.Off+l.Filesz {
			n = max(n, p.Off+p.Filesz-l.Off)
		}
	}
	return n
}

func putProg(b []byte, h elf.ProgHeader, off, filesz uint64) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(h.Type))
	le.PutUint32(b[4:], uint32(h.Flags))
	for i, v := range []uint64{off, h.Vaddr, h.Paddr, filesz, h.Memsz, h.Align} {
		le.PutUint64(b[8+8*i:], v)
	}
}

// hasPVH looks for the note "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY). A note
// is three words (length of the name, length of the content, type), then both,
// each padded to four bytes.
func hasPVH(f *elf.File, raw []byte) bool {
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE {
			continue
		}
		for b := raw[p.Off : p.Off+p.Filesz]; len(b) >= 12; {
			le := binary.LittleEndian
			name, desc, typ := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
			end := 12 + (name+3)&^3 + (desc+3)&^3
			if end > uint64(len(b)) {
				break
			}
			if typ == 18 && string(b[12:12+name]) == "Xen\x00" {
				return true
			}
			b = b[end:]
		}
	}
	return false
}
