package bootfiles

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// indexPath is where the agent reads the module index; docs/guest.md has its
// format.
const indexPath = "lib/modules/modules.byre"

// An index is what modules.byre says.
type index struct {
	k     *kernel
	names []string // of the modules, sorted
	core  []string // in insertion order
	warm  []string // in insertion order, after core
	soft  map[string][]string
	on    map[string]string // the one kind of machine that a module is for
}

func newIndex(k *kernel) *index {
	ix := &index{k: k, names: slices.Sorted(maps.Keys(k.modules)), soft: map[string][]string{}}
	// A soft dependency is a name or an alias; the index has names only.
	for _, name := range ix.names {
		for _, s := range k.modules[name].soft {
			for _, n := range ix.providers(s) {
				if n != name && !slices.Contains(ix.soft[name], n) {
					ix.soft[name] = append(ix.soft[name], n)
				}
			}
		}
	}
	ix.on = ix.kinds()
	for _, w := range k.table {
		if w.core {
			ix.core = ix.insert(ix.core, w.name, nil)
		}
	}
	order := slices.Clone(ix.core)
	for _, w := range k.table {
		if w.warm {
			order = ix.insert(order, w.name, nil)
		}
	}
	ix.warm = order[len(ix.core):]
	return ix
}

// forRoot is the index of modules.img: what is inserted before the root file
// system is mounted, and nothing else.
func (ix *index) forRoot() *index {
	r := &index{k: ix.k, soft: ix.soft, on: ix.on, core: slices.Clone(ix.core)}
	for _, w := range ix.k.table {
		if w.root {
			r.core = r.insert(r.core, w.name, nil)
		}
	}
	r.names = slices.Sorted(slices.Values(r.core))
	return r
}

// kinds tells of each module that is for one kind of machine alone which one:
// neither wanted on any other, nor needed by what is.
func (ix *index) kinds() map[string]string {
	wanted := map[string]map[string]bool{virtio: {}, hyperV: {}}
	for kind, names := range wanted {
		var list []string
		for _, w := range ix.k.table {
			if w.on == "" || w.on == kind {
				list = ix.insert(list, w.name, nil)
			}
		}
		for _, n := range list {
			names[n] = true
		}
	}
	on := map[string]string{}
	for _, n := range ix.names {
		if wanted[virtio][n] && !wanted[hyperV][n] {
			on[n] = virtio
		}
		if wanted[hyperV][n] && !wanted[virtio][n] {
			on[n] = hyperV
		}
	}
	return on
}

// providers are the modules that a request for name means: the module of that
// name, or those with a matching alias, in the order of the table.
func (ix *index) providers(name string) []string {
	if ix.k.modules[name] != nil {
		return []string{name}
	}
	var found []string
	for _, w := range ix.k.table {
		if m := ix.k.modules[w.name]; m != nil && slices.Contains(m.aliases, name) {
			found = append(found, w.name)
		}
	}
	return found
}

// insert appends a module to list, after what it needs.
func (ix *index) insert(list []string, name string, above []string) []string {
	m := ix.k.modules[name]
	if m == nil || slices.Contains(list, name) || slices.Contains(above, name) {
		return list // built in, already there, or a cycle
	}
	above = append(above, name)
	for _, n := range slices.Concat(ix.soft[name], m.deps) {
		list = ix.insert(list, n, above)
	}
	return append(list, name)
}

// encode is the file's content.
func (ix *index) encode() []byte {
	var b bytes.Buffer
	if len(ix.k.modules) == 0 {
		return []byte("byre-modules 1 -\n")
	}
	fmt.Fprintf(&b, "byre-modules 1 %s\n", ix.k.release)
	for _, name := range ix.names {
		fmt.Fprintf(&b, "mod %s %s\n", name, strings.Join(ix.fields(name), " "))
	}
	for _, w := range slices.SortedFunc(slices.Values(ix.k.table), func(a, b want) int { return strings.Compare(a.name, b.name) }) {
		if ix.k.builtin[w.name] {
			fmt.Fprintf(&b, "builtin %s\n", w.name)
		}
	}
	for _, name := range ix.core {
		fmt.Fprintf(&b, "core %s\n", name)
	}
	for _, name := range ix.warm {
		fmt.Fprintf(&b, "warm %s\n", name)
	}
	for _, a := range ix.aliases() {
		fmt.Fprintf(&b, "alias %s %s\n", a[0], a[1])
	}
	return b.Bytes()
}

// Limits of the format, which the agent relies on.
const (
	maxIndex   = 1 << 20
	maxLine    = 1024
	maxModules = 1024
)

// check tells whether the file keeps the format's limits.
func (ix *index) check() error {
	text := ix.encode()
	if len(text) > maxIndex || len(ix.names) > maxModules {
		return fmt.Errorf("an index of %d bytes and %d modules is over the limit", len(text), len(ix.names))
	}
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		if len(line) > maxLine {
			return fmt.Errorf("a line of the module index is over the limit: %.80s…", line)
		}
	}
	return nil
}

// fields are the parts of a mod line behind the name.
func (ix *index) fields(name string) []string {
	m := ix.k.modules[name]
	f := []string{"/" + m.imagePath()}
	deps := slices.DeleteFunc(slices.Clone(m.deps), func(d string) bool { return ix.k.modules[d] == nil })
	soft := slices.DeleteFunc(slices.Clone(ix.soft[name]), func(d string) bool { return !slices.Contains(ix.names, d) })
	if len(deps) > 0 {
		f = append(f, "deps="+strings.Join(deps, ","))
	}
	if len(soft) > 0 {
		f = append(f, "soft="+strings.Join(soft, ","))
	}
	for _, w := range ix.k.table {
		if w.name == name && w.args != "" {
			f = append(f, "args="+w.args)
		}
		if w.name == name && w.cpu != "" {
			f = append(f, "cpu="+w.cpu)
		}
	}
	if on := ix.on[name]; on != "" {
		f = append(f, "on="+on)
	}
	return f
}

// aliases are the pairs of pattern and module, sorted by pattern; those with
// the same pattern are in the order of the table.
func (ix *index) aliases() [][2]string {
	var all [][2]string
	add := func(name string) {
		if !slices.Contains(ix.names, name) {
			return
		}
		for _, a := range ix.k.modules[name].aliases {
			if pair := [2]string{a, name}; !slices.Contains(all, pair) {
				all = append(all, pair)
			}
		}
	}
	for _, w := range ix.k.table {
		add(w.name)
	}
	for _, name := range ix.names { // those that only others depend on
		add(name)
	}
	slices.SortStableFunc(all, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return all
}

func (m *module) imagePath() string { return "lib/modules/" + m.release + "/" + m.path }
