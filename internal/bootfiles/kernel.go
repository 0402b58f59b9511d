package bootfiles

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

const (
	maxImage  = 256 << 20 // limit of a kernel image
	maxModule = 64 << 20  // limit of one module
)

// A kernel is an image and those of its modules that are wanted.
type kernel struct {
	release string
	image   []byte             // the bzImage
	modules map[string]*module // by name, with all that they depend on
	builtin map[string]bool    // names of modules that the image has built in
	table   []want
	missing []string // wanted, but neither a module nor built in
	notes   []string // what the kernel cannot do
	inputs  map[string]File
}

// loadKernel reads the image and the modules of the table, and what these
// depend on.
func loadKernel(ctx context.Context, src source, table []want) (*kernel, error) {
	k := &kernel{modules: map[string]*module{}, builtin: map[string]bool{}, table: table}
	need := map[string]bool{}
	for _, w := range table {
		need[w.name] = true
	}
	for first := true; len(need) > 0; first = false {
		if err := src.each(ctx, k.collect(need, first)); err != nil {
			return nil, err
		}
		if k.image == nil {
			return nil, fmt.Errorf("%s has no kernel (boot/vmlinuz-*)", src.name())
		}
		// What the modules depend on and is not there yet.
		next := map[string]bool{}
		for _, m := range k.modules {
			for _, d := range m.deps {
				if k.modules[d] == nil && !k.builtin[d] {
					if need[d] {
						return nil, fmt.Errorf("%s: module %s depends on %s, which is not there", src.name(), m.name, d)
					}
					next[d] = true
				}
			}
		}
		need = next
	}
	if src.modular() { // else it is taken to have everything built in
		if err := k.check(src.name()); err != nil {
			return nil, err
		}
	}
	k.inputs = src.inputs(k)
	return k, nil
}

// collect returns a visitor that keeps the files that are needed.
func (k *kernel) collect(need map[string]bool, first bool) func(string, int64, io.Reader) error {
	return func(name string, size int64, r io.Reader) (err error) {
		switch {
		case name == imageName && first:
			if k.image != nil {
				return fmt.Errorf("there is more than one kernel")
			}
			if k.image, err = readAll(r, size, maxImage); err == nil {
				k.release, err = release(k.image)
			}
		case name == "modules.builtin" && first:
			s := bufio.NewScanner(io.LimitReader(r, 1<<20))
			for s.Scan() {
				k.builtin[moduleName(s.Text())] = true
			}
			err = s.Err()
		case isModule(name) && need[moduleName(name)] && k.modules[moduleName(name)] == nil:
			var m *module
			if m, err = readModule(name, size, r); err == nil {
				k.modules[m.name] = m
			}
		}
		return err
	}
}

// check tells what is missing, and refuses a kernel that cannot do.
func (k *kernel) check(name string) error {
	for _, mod := range slices.Sorted(maps.Keys(k.modules)) {
		if m := k.modules[mod]; m.release != k.release {
			return fmt.Errorf("%s: the kernel is %s, but module %s is for %s", name, k.release, mod, m.release)
		}
	}
	for _, w := range k.table {
		if k.modules[w.name] != nil || k.builtin[w.name] {
			continue
		}
		if (w.core || w.root) && w.on == hyperV {
			k.notes = append(k.notes, noHyperV+"the kernel has no "+w.name)
		} else if w.core || w.root {
			return fmt.Errorf("%s: the kernel has no %s, neither as a module nor built in", name, w.name)
		}
		k.missing = append(k.missing, w.name)
	}
	return nil
}

// modulesDigest is the digest of the modules' names and contents.
func (k *kernel) modulesDigest() File {
	h := sha256.New()
	var n int64
	for _, name := range slices.Sorted(maps.Keys(k.modules)) {
		m := k.modules[name]
		fmt.Fprintf(h, "%s %d\n", m.path, len(m.data))
		h.Write(m.data)
		n += int64(len(m.data))
	}
	return File{Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}
}

// isModule tells whether a path is that of a module, compressed or not.
func isModule(name string) bool {
	_, ext, ok := strings.Cut(path.Base(name), ".ko")
	return strings.HasPrefix(name, "kernel/") && ok && (ext == "" || ext == ".xz" || ext == ".gz" || ext == ".zst")
}

// moduleName is the name of the module in a file, as /proc/modules has it.
func moduleName(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(base, "-", "_")
}

// readAll reads size bytes, which may not be more than limit.
func readAll(r io.Reader, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("%d bytes, more than the limit of %d", size, limit)
	}
	b := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	if _, err := io.CopyN(b, r, size); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
