//go:build linux

package hostfs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a look-up tells is what the host's programs see.
func TestLookup(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "text")
	mkdir(t, dir, "d")
	if err := os.Symlink("nowhere", filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "f"), time.Unix(1000, 1), time.Unix(-2000, 2)); err != nil {
		t.Fatal(err)
	}
	tree := open(t, Share{Path: dir})
	names := []string{"f", "d", "s", "fifo"}
	for _, name := range names {
		n, st, err := tree.Root().Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		host := lstat(t, filepath.Join(dir, name))
		if st != host {
			t.Errorf("%s: got %+v, want %+v", name, st, host)
		}
		if again, err := n.Stat(); again != host {
			t.Errorf("%s: got %+v, want %+v, %v", name, again, host, err)
		}
		if id := n.ID(); id.Dev != host.Dev || id.Ino != host.Ino || n.Kind() != host.Mode&unix.S_IFMT {
			t.Errorf("%s: got %+v of kind %o", name, id, n.Kind())
		}
		n.Unref()
	}
	null, st, err := open(t, Share{Path: "/dev"}).Root().Lookup("null")
	if err != nil || st.Rdev != unix.Mkdev(1, 3) {
		t.Fatalf("/dev/null is device %#x, %v", st.Rdev, err)
	}
	null.Unref()
	_, _, err = tree.Root().Lookup("none")
	want(t, "nothing", err, unix.ENOENT)
	_, _, err = at(t, tree, "f").Lookup("x")
	want(t, "in a file", err, unix.ENOTDIR)
	_, _, err = at(t, tree, "s").Lookup("x")
	want(t, "in a link", err, unix.ENOTDIR)
	if got := at(t, tree, "s"); got.Kind() != unix.S_IFLNK {
		t.Error("a link was followed")
	}
	if st, err := tree.Root().Statfs(); err != nil || st.Bsize == 0 {
		t.Errorf("statfs: %+v, %v", st, err)
	}
}

// A file that comes to have the number of another one is another one.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	tree := open(t, Share{Path: dir})
	var ids []ID
	for range 20 {
		p := put(t, dir, "f", "")
		id := at(t, tree, "f").ID()
		if other := at(t, tree, "f").ID(); other != id {
			t.Fatalf("the same file is %+v and %+v", id, other)
		}
		if id.Btime == 0 { // as of file systems that do not know
			t.Logf("no time of birth here: %+v", id)
			return
		}
		if slices.Contains(ids, id) {
			t.Errorf("two files are %+v", id)
		}
		ids = append(ids, id)
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, err := range map[string]error{
		"": unix.EINVAL, ".": unix.EINVAL, "..": unix.EINVAL, "a/b": unix.EINVAL, "/": unix.EINVAL, "a\x00": unix.EINVAL,
		strings.Repeat("x", 256): unix.ENAMETOOLONG, strings.Repeat("x", 255): nil, "...": nil, "a b": nil, "\xff": nil,
	} {
		want(t, name, CheckName(name), err)
	}
}

func TestAllowedNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "secret"} {
		put(t, dir, name, name)
	}
	put(t, mkdir(t, dir, "d"), "secret", "below")
	tree := open(t, Share{Path: dir, AllowedNames: []string{"a", "d", "later"}})
	root, d, a := tree.Root(), at(t, tree, "d"), at(t, tree, "a")
	at(t, tree, "d", "secret")
	_, _, err := root.Lookup("secret")
	want(t, "look-up", err, unix.ENOENT)
	_, _, _, err = root.Create("secret", unix.O_RDWR, 0o644, Owner{})
	want(t, "create", err, unix.EPERM)
	_, _, err = root.Mkdir("x", 0o755, Owner{})
	want(t, "mkdir", err, unix.EPERM)
	want(t, "link", a.Link(root, "x"), unix.EPERM)
	want(t, "unlink", root.Unlink("secret", false), unix.ENOENT)
	want(t, "rename from", root.Rename("secret", d, "x", 0), unix.ENOENT)
	want(t, "rename to", root.Rename("a", root, "secret", 0), unix.EPERM)
	want(t, "exchange", root.Rename("a", root, "secret", unix.RENAME_EXCHANGE), unix.ENOENT)
	want(t, "exchange from", d.Rename("secret", root, "secret", unix.RENAME_EXCHANGE), unix.ENOENT)
	names, err := entries(openFile(t, root, unix.O_DIRECTORY), 1000)
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{".", "..", "a", "d"}) {
		t.Errorf("got %q, %v", names, err)
	}
	n, f, _, err := root.Create("later", unix.O_RDWR, 0o644, Owner{NoID, NoID, false})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	n.Unref()
}
