//go:build linux

package hostfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What Identify tells is what a look-up would, and it reaches no further.
func TestIdentify(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "text")
	put(t, dir, "secret", "")
	mkdir(t, dir, "d")
	if err := os.Symlink("f", filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	tree := open(t, Share{Path: dir, AllowedNames: []string{"f", "d", "s", "none"}})
	root := tree.Root()
	for _, name := range []string{"f", "d", "s"} {
		n := at(t, tree, name)
		id, st, err := root.Identify(name)
		if host := lstat(t, filepath.Join(dir, name)); id != n.ID() || st != host || err != nil {
			t.Errorf("%s: got %+v, %+v, %v, want %+v, %+v", name, id, st, err, n.ID(), host)
		}
	}
	for _, tt := range []struct {
		in   *Node
		name string
		want error
	}{
		{root, "none", unix.ENOENT},
		{root, "secret", unix.ENOENT},
		{root, "..", unix.ENOENT},
		{at(t, tree, "d"), "..", unix.EINVAL},
		{at(t, tree, "d"), "", unix.EINVAL},
		{at(t, tree, "d"), ".", unix.EINVAL},
		{at(t, tree, "d"), "../f", unix.EINVAL},
		{at(t, tree, "d"), "/etc", unix.EINVAL},
		{at(t, tree, "d"), strings.Repeat("n", 256), unix.ENAMETOOLONG},
		{at(t, tree, "f"), "x", unix.ENOTDIR},
		{at(t, tree, "s"), "x", unix.ENOTDIR},
	} {
		_, _, err := tt.in.Identify(tt.name)
		want(t, "identify "+tt.name, err, tt.want)
	}
	tree.End()
	_, _, err := root.Identify("f")
	want(t, "after End", err, unix.ESTALE)
}
