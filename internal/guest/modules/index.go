//go:build linux

package modules

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// IndexPath is where the image has its index.
const IndexPath = "/lib/modules/modules.byre"

// Limits of an index.
const (
	maxIndex   = 1 << 20
	maxLine    = 1024
	maxModules = 1024
)

// ErrIndex is wrapped by the errors of an index that breaks the format.
var ErrIndex = errors.New("malformed module index")

type module struct {
	name, path string
	deps, soft []string
	args       string
	cpu        string
	on         string // the kind of machine that it is for, "" for any
}

type alias struct{ pattern, name string }

// An Index says which modules an image has. It does not change once parsed.
type Index struct {
	// Version is the release of the kernel that the modules are for, or "-".
	Version string
	// Core names the modules to insert at boot, in order.
	Core []string
	// Warm names the modules to insert once the host has been reached.
	Warm []string

	modules map[string]*module
	builtin map[string]bool
	aliases []alias
}

// ReadIndex reads the index at path. An index that is not there is an empty
// one: the kernel has everything built in.
func ReadIndex(path string) (*Index, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return newIndex(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the module index: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, fmt.Errorf("reading the module index: %w", err)
	}
	return ParseIndex(b)
}

func newIndex() *Index {
	return &Index{Version: "-", modules: make(map[string]*module), builtin: make(map[string]bool)}
}

// ParseIndex parses an index. Its errors wrap [ErrIndex].
func ParseIndex(b []byte) (*Index, error) {
	if len(b) > maxIndex {
		return nil, fmt.Errorf("%w: larger than %d bytes", ErrIndex, maxIndex)
	}
	ix := newIndex()
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(make([]byte, 0, maxLine), maxLine)
	if !s.Scan() {
		return nil, fmt.Errorf("%w: no first line", ErrIndex)
	}
	first := strings.Split(s.Text(), " ")
	if len(first) != 3 || first[0] != "byre-modules" || first[1] != "1" || first[2] == "" {
		return nil, fmt.Errorf("%w: first line %q", ErrIndex, s.Text())
	}
	ix.Version = first[2]
	for n := 2; s.Scan(); n++ {
		if err := ix.add(strings.Split(s.Text(), " ")); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrIndex, n, err)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIndex, err)
	}
	return ix, ix.check()
}

func (ix *Index) add(f []string) error {
	switch f[0] {
	case "mod":
		m, err := parseModule(f)
		if err != nil {
			return err
		}
		if ix.modules[m.name] != nil {
			return fmt.Errorf("module %s twice", m.name)
		}
		if len(ix.modules) == maxModules {
			return fmt.Errorf("more than %d modules", maxModules)
		}
		ix.modules[m.name] = m
	case "builtin", "core", "warm":
		if len(f) != 2 || f[1] == "" {
			return fmt.Errorf("%s line with %d fields", f[0], len(f))
		}
		switch f[0] {
		case "core":
			ix.Core = append(ix.Core, f[1])
		case "warm":
			ix.Warm = append(ix.Warm, f[1])
		default:
			ix.builtin[f[1]] = true
		}
	case "alias":
		if len(f) != 3 {
			return fmt.Errorf("alias line with %d fields", len(f))
		}
		ix.aliases = append(ix.aliases, alias{f[1], f[2]})
	}
	return nil
}

func parseModule(f []string) (*module, error) {
	if len(f) < 3 || f[1] == "" || !path.IsAbs(f[2]) {
		return nil, errors.New("mod line without name and absolute path")
	}
	m := &module{name: f[1], path: f[2]}
	for _, kv := range f[3:] {
		switch k, v, _ := strings.Cut(kv, "="); k {
		case "deps":
			m.deps = strings.Split(v, ",")
		case "soft":
			m.soft = strings.Split(v, ",")
		case "args":
			m.args = strings.TrimPrefix(m.args+" "+v, " ")
		case "cpu":
			m.cpu = v
		case "on":
			m.on = v
		}
	}
	return m, nil
}

// check refuses names that nothing has and circles of dependencies.
func (ix *Index) check() error {
	for _, n := range slices.Concat(ix.Core, ix.Warm) {
		if !ix.has(n) {
			return fmt.Errorf("%w: module %s is to be inserted and not in it", ErrIndex, n)
		}
	}
	for _, a := range ix.aliases {
		if !ix.has(a.name) {
			return fmt.Errorf("%w: alias %s for %s, which is not in it", ErrIndex, a.pattern, a.name)
		}
	}
	const walking, done = 1, 2
	state := make(map[string]int, len(ix.modules))
	var walk func(n string) error
	walk = func(n string) error {
		m := ix.modules[n]
		if m == nil || state[n] == done {
			return nil
		}
		if state[n] == walking {
			return fmt.Errorf("%w: %s needs itself", ErrIndex, n)
		}
		state[n] = walking
		for _, d := range m.deps {
			if !ix.has(d) {
				return fmt.Errorf("%w: %s needs %s, which is not in it", ErrIndex, n, d)
			}
			if err := walk(d); err != nil {
				return err
			}
		}
		for _, d := range m.soft {
			if err := walk(d); err != nil {
				return err
			}
		}
		state[n] = done
		return nil
	}
	for n := range ix.modules {
		if err := walk(n); err != nil {
			return err
		}
	}
	return nil
}

func (ix *Index) has(name string) bool { return ix.modules[name] != nil || ix.builtin[name] }

// Lookup returns the names of the modules that request means, as the kernel
// or a user writes it; none when there is no such module.
func (ix *Index) Lookup(request string) []string {
	request = normalize(request)
	if ix.has(request) {
		return []string{request}
	}
	var names []string
	for _, a := range ix.aliases {
		if matches(a.pattern, request) {
			names = append(names, a.name)
		}
	}
	return names
}

func matches(pattern, s string) bool {
	if !strings.ContainsAny(pattern, "*?[") {
		return pattern == s
	}
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}

// normalize writes each - outside of brackets as _, as modprobe does.
func normalize(s string) string {
	b := []byte(s)
	in := false
	for i, c := range b {
		switch {
		case c == '[':
			in = true
		case c == ']':
			in = false
		case c == '-' && !in:
			b[i] = '_'
		}
	}
	return string(b)
}
