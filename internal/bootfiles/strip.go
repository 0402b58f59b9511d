package bootfiles

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
)

const shdrSize = 64

// stripTypes removes the content of a module's .BTF section: the types of its
// data, for programs that trace the kernel. They are a tenth of a module, and
// the kernel reads through them when it is inserted. The section's header
// becomes an empty one, so that the others keep their numbers. What is no
// module, or an odd one, is left as it is.
func stripTypes(b []byte) []byte {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil || f.Class != elf.ELFCLASS64 || f.ByteOrder != binary.LittleEndian || f.Type != elf.ET_REL || len(f.Progs) > 0 {
		return b
	}
	drop := slices.IndexFunc(f.Sections, func(s *elf.Section) bool { return s.Name == ".BTF" && s.Flags&elf.SHF_ALLOC == 0 })
	if drop < 0 {
		return b
	}
	le := binary.LittleEndian
	table := le.Uint64(b[40:])
	if size := uint64(len(f.Sections) * shdrSize); table > uint64(len(b)) || size > uint64(len(b))-table {
		return b
	}
	headers := bytes.Clone(b[table : table+uint64(len(f.Sections)*shdrSize)])
	clear(headers[drop*shdrSize : (drop+1)*shdrSize])

	var order []int // the sections with content, as they are in the file
	for i, s := range f.Sections {
		if i == drop || s.Type == elf.SHT_NULL || s.Type == elf.SHT_NOBITS {
			continue
		}
		relocates := s.Type == elf.SHT_REL || s.Type == elf.SHT_RELA
		if relocates && int(s.Info) == drop || s.Offset > uint64(len(b)) || s.FileSize > uint64(len(b))-s.Offset || s.Addralign > page {
			return b
		}
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return int(int64(f.Sections[i].Offset) - int64(f.Sections[j].Offset))
	})
	out := bytes.Clone(b[:ehdrSize])
	for _, i := range order {
		s := f.Sections[i]
		out = align(out, s.Addralign)
		le.PutUint64(headers[i*shdrSize+24:], uint64(len(out)))
		out = append(out, b[s.Offset:s.Offset+s.FileSize]...)
		if len(out) > len(b) {
			return b // sections that share their content
		}
	}
	out = align(out, 8)
	le.PutUint64(out[40:], uint64(len(out)))
	return append(out, headers...)
}

// align appends zeros up to a multiple of n.
func align(b []byte, n uint64) []byte {
	for n > 1 && uint64(len(b))%n != 0 {
		b = append(b, 0)
	}
	return b
}
