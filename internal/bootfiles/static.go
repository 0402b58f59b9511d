package bootfiles

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// maxProgram limits the size of the agent and the runtime.
const maxProgram = 256 << 20

// readStatic reads a program that must run where there is no loader and no
// library: an ELF for x86-64 without an interpreter and without needed
// libraries.
func readStatic(what, path string) ([]byte, error) {
	if path == "" {
		return nil, fmt.Errorf("no %s is given", what)
	}
	b, err := readFile(path, maxProgram)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if err := checkStatic(b); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", what, path, err)
	}
	return b, nil
}

func checkStatic(b []byte) error {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("not an ELF program: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("built for %v, want %v", f.Machine, elf.EM_X86_64)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return fmt.Errorf("an ELF file of type %v, not a program", f.Type)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("not a static program: it names an interpreter")
		}
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("reading its libraries: %w", err)
	}
	if len(libs) > 0 {
		return fmt.Errorf("not a static program: it needs %s", libs[0])
	}
	return nil
}

// placesMarker is what an agent of byre has in its file: the version of the
// places of devices that it knows (place.Marker).
var placesMarker = regexp.MustCompile(`byre-places:(\d{1,6});`)

// placesOf returns the version of the places that an agent knows, 0 if it does
// not say.
func placesOf(agent []byte) int {
	m := placesMarker.FindSubmatch(agent)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return 0
	}
	return n
}
