//go:build linux

package modules

import "slices"

// Split returns the core modules in two parts that keep their order: first
// those without which the host cannot be reached (the named ones and what they
// need), then the rest. Inserting first, then rest, is as good as the order of
// the index.
func (ix *Index) Split(names ...string) (first, rest []string) {
	need := make(map[string]bool)
	var mark func(n string)
	mark = func(n string) {
		m := ix.modules[n]
		if m == nil || need[n] {
			return
		}
		need[n] = true
		for _, d := range slices.Concat(m.deps, m.soft) {
			mark(d)
		}
	}
	for _, n := range names {
		mark(n)
	}
	for _, n := range ix.Core {
		if need[n] {
			first = append(first, n)
		} else {
			rest = append(rest, n)
		}
	}
	return first, rest
}
