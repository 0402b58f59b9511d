package layers

import "sort"

// A plan says, by entry, where each entry that made a file of a finished tree
// lands. Entries that were replaced are not in it.
type plan map[int]act

// plan is what to hand on in a second reading of an archive whose entries
// replace one another.
func (t *tree) plan() plan {
	type place struct {
		n    *node
		name string
	}
	var places []place
	t.root.walk("", func(name string, n *node) error {
		if n.inode != nil && !n.assumed() {
			places = append(places, place{n, name})
		}
		return nil
	})
	sort.Slice(places, func(i, j int) bool { return places[i].n.by < places[j].n.by })
	p := make(plan, len(places))
	first := make(map[*inode]string, len(places))
	for _, at := range places {
		target, linked := first[at.n.inode]
		if linked {
			p[at.n.by] = act{name: at.name, target: target, emit: true}
			continue
		}
		// The oldest name that is left of a file stands where its data is,
		// also when that name came later as a link.
		first[at.n.inode] = at.name
		p[at.n.inode.entry] = act{name: at.name, emit: true}
	}
	return p
}
