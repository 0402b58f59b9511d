package bootfiles

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"testing"
)

// sections returns a module's sections and their contents.
func sections(t *testing.T, b []byte) (headers []elf.SectionHeader, contents [][]byte) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range f.Sections {
		data := []byte(nil)
		if s.Type != elf.SHT_NULL {
			if data, err = s.Data(); err != nil {
				t.Fatal(err)
			}
		}
		headers, contents = append(headers, s.SectionHeader), append(contents, data)
	}
	return headers, contents
}

// renamed returns the test module with its section .modinfo called .BTF, and
// content of other sections behind it.
func renamed() []byte {
	return bytes.Replace(stripSignature(makeModule(testRelease, "alias=of-no-meaning")), []byte("\x00.modinfo\x00"), []byte("\x00.BTF\x00\x00\x00\x00\x00"), 1)
}

func TestStripTypes(t *testing.T) {
	b := renamed()
	got := stripTypes(b)
	if bytes.Contains(got, []byte("of-no-meaning")) || len(got) >= len(b) {
		t.Errorf("%d bytes of %d are left, with the types", len(got), len(b))
	}
	before, data := sections(t, b)
	after, left := sections(t, got)
	if len(before) != 3 || len(after) != len(before) {
		t.Fatalf("%d sections of %d", len(after), len(before))
	}
	if after[1] != (elf.SectionHeader{}) {
		t.Errorf("the section's header is %+v", after[1])
	}
	after[2].Offset = before[2].Offset
	if after[2] != before[2] || !bytes.Equal(left[2], data[2]) {
		t.Errorf("another section is %+v with %q, want %+v with %q", after[2], left[2], before[2], data[2])
	}
	if !bytes.Equal(stripTypes(got), got) {
		t.Error("what has no types is changed")
	}
}

// TestStripTypesNot are files that are left as they are.
func TestStripTypesNot(t *testing.T) {
	change := func(at int, v uint64) []byte {
		b := renamed()
		binary.LittleEndian.PutUint64(b[at:], v)
		return b
	}
	good := renamed()
	last := int(binary.LittleEndian.Uint64(good[40:])) + 2*shdrSize
	rela := bytes.Clone(good)
	binary.LittleEndian.PutUint32(rela[last+4:], uint32(elf.SHT_RELA))
	binary.LittleEndian.PutUint32(rela[last+44:], 1)
	for name, b := range map[string][]byte{
		"text":              []byte("text"),
		"a program":         makeProgram("text"),
		"no types":          stripSignature(makeModule(testRelease)),
		"types relocated":   rela,
		"content not there": change(last+24, 1<<40),
		"absurd alignment":  change(last+48, 1<<40),
		"truncated":         good[:len(good)-8],
		"nothing":           nil,
	} {
		if got := stripTypes(bytes.Clone(b)); !bytes.Equal(got, b) {
			t.Errorf("%s: changed", name)
		}
	}
}

func FuzzStripTypes(f *testing.F) {
	f.Add(renamed())
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := stripTypes(b); len(got) > 2*len(b)+page {
			t.Errorf("%d bytes of %d", len(got), len(b))
		}
	})
}
