package bootfiles

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// A module is one .ko file and what its .modinfo section says.
type module struct {
	name    string
	path    string // below the modules' folder, without a compression's extension
	data    []byte // without the signature and the types
	release string // of the kernel that it is for
	deps    []string
	soft    []string // as written: module names or aliases
	aliases []string // normalised
}

// readModule reads a module of size bytes, compressed or not.
func readModule(name string, size int64, r io.Reader) (*module, error) {
	data, err := readAll(r, size, maxModule)
	if err != nil {
		return nil, err
	}
	if ext := path.Ext(name); ext != ".ko" {
		u, err := decompressor(bytes.NewReader(data), ext)
		if err != nil {
			return nil, err
		}
		if data, err = io.ReadAll(io.LimitReader(u, maxModule+1)); err != nil {
			return nil, err
		}
		if len(data) > maxModule {
			return nil, fmt.Errorf("more than the limit of %d bytes when decompressed", maxModule)
		}
		name = strings.TrimSuffix(name, ext)
	}
	m := &module{name: moduleName(name), path: name, data: stripTypes(stripSignature(data))}
	if err := checkPath(m.path); err != nil {
		return nil, err
	}
	return m, m.readInfo()
}

// readInfo reads the .modinfo section, a list of NUL-terminated "key=value".
func (m *module) readInfo() error {
	f, err := elf.NewFile(bytes.NewReader(m.data))
	if err != nil {
		return fmt.Errorf("not a kernel module: %w", err)
	}
	if f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 || f.Type != elf.ET_REL {
		return fmt.Errorf("not a kernel module for x86-64 (%v, %v)", f.Machine, f.Type)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return errors.New("a kernel module without .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return fmt.Errorf("reading .modinfo: %w", err)
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.deps = append(m.deps, moduleName(d))
				}
			}
		case "softdep":
			m.soft = append(m.soft, softBefore(value)...)
		case "alias":
			m.aliases = append(m.aliases, normalise(value))
		case "vermagic":
			m.release, _, _ = strings.Cut(value, " ")
		}
	}
	return m.checkInfo()
}

// checkInfo refuses what would break the index's lines.
func (m *module) checkInfo() error {
	for _, list := range [][]string{{m.name, m.release}, m.deps, m.soft, m.aliases} {
		for _, s := range list {
			if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
				return fmt.Errorf("a kernel module with a bad .modinfo: %q", s)
			}
		}
	}
	return nil
}

// softBefore returns the names after "pre:" in a softdep line.
func softBefore(line string) []string {
	var names []string
	before := false
	for _, word := range strings.Fields(line) {
		switch word {
		case "pre:", "post:":
			before = word == "pre:"
		default:
			if before {
				names = append(names, normalise(word))
			}
		}
	}
	return names
}

// normalise writes "_" for "-", except between brackets, as modprobe does.
func normalise(alias string) string {
	b := []byte(alias)
	depth := 0
	for i, c := range b {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == '-' && depth <= 0:
			b[i] = '_'
		}
	}
	return string(b)
}

// stripSignature removes an appended signature: the signature, 12 bytes of
// which the last four are its length, and a marker. Checking it takes a third
// of the time to insert a module, and nothing in the guest asks for it.
func stripSignature(b []byte) []byte {
	const marker = "~Module signature appended~\n"
	body, ok := bytes.CutSuffix(b, []byte(marker))
	if !ok || len(body) < 12 {
		return b
	}
	info := body[len(body)-12:]
	n := int64(binary.BigEndian.Uint32(info[8:])) + 12
	if n > int64(len(body)) {
		return b
	}
	return body[:int64(len(body))-n]
}

// checkPath refuses a path that the index or the archive could not carry.
func checkPath(p string) error {
	if path.Clean(p) != p || path.IsAbs(p) || strings.HasPrefix(p, "..") || len(p) > 512 ||
		strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return fmt.Errorf("bad path %q", p)
	}
	return nil
}
