//go:build linux

package hostfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// open shares a folder by a count that must be zero when the test ends.
func open(t *testing.T, sh Share) *Tree { return openAs(t, NewFiles(0), sh) }

func openAs(t *testing.T, files *Files, sh Share) *Tree {
	t.Helper()
	if sh.Name == "" {
		sh.Name = "share"
	}
	tree, err := files.Open(sh)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tree.Close()
		if n := files.Held(); n != 0 {
			t.Errorf("%d descriptors are left", n)
		}
	})
	return tree
}

// at returns the node of a path, until the test ends.
func at(t *testing.T, tree *Tree, names ...string) *Node {
	t.Helper()
	n := tree.Root().Ref()
	for _, name := range names {
		next, _, err := n.Lookup(name)
		n.Unref()
		if err != nil {
			t.Fatalf("look-up of %q in %q: %v", name, names, err)
		}
		n = next
	}
	t.Cleanup(n.Unref)
	return n
}

// openFile opens a file, until the test ends.
func openFile(t *testing.T, n *Node, flags int) *File {
	t.Helper()
	f, _, err := n.Open(flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func put(t testing.TB, dir, name, text string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func mkdir(t testing.TB, dir, name string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.Mkdir(p, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func want(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

// lstat returns the attributes that the host's programs see.
func lstat(t *testing.T, p string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(p, &st); err != nil {
		t.Fatal(err)
	}
	return st
}
