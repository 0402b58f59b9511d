package hcstest

import (
	"slices"
	"strings"
	"time"
)

// residueLimit is how long what a test used may take to go: closing a
// connection is not the moment at which its far end is gone. Only a test of the
// suite itself changes it.
var residueLimit = 5 * time.Second

// CheckResidue lists what there is on the host and fails t if its end leaves
// more of it. Call it before anything that t cleans up is made.
func CheckResidue(t T, list func(T) []string) {
	t.Helper()
	before := list(t)
	t.Cleanup(func() {
		t.Helper()
		for deadline := time.Now().Add(residueLimit); ; <-time.After(10 * time.Millisecond) {
			left := more(list(t), before)
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("left on the host:\n\t%s", strings.Join(left, "\n\t"))
				return
			}
		}
	})
}

// more returns what a list has more than another, sorted.
func more(list, than []string) []string {
	than = slices.Clone(than)
	var left []string
	for _, s := range list {
		if i := slices.Index(than, s); i >= 0 {
			than = slices.Delete(than, i, i+1)
			continue
		}
		left = append(left, s)
	}
	slices.Sort(left)
	return left
}
