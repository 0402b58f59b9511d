//go:build linux

package hostfs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// entries reads the names of a folder, as many at a time.
func entries(f *File, many int) (names []string, err error) {
	buf, off := make([]byte, DirBuffer), int64(0)
	for {
		got := 0
		err := f.Entries(off, buf, func(_ uint64, next int64, _ uint8, name []byte) bool {
			if got == many {
				return false
			}
			got++
			off, names = next, append(names, string(name))
			return true
		})
		if got == 0 || err != nil {
			return names, err
		}
	}
}

func TestEntries(t *testing.T) {
	dir := t.TempDir()
	all := []string{".", ".."}
	for i := range 700 {
		name := fmt.Sprintf("%d-%s", i, strings.Repeat("x", i%200))
		put(t, dir, name, "")
		all = append(all, name)
	}
	slices.Sort(all)
	f := openFile(t, at(t, open(t, Share{Path: dir})), unix.O_DIRECTORY)
	for _, many := range []int{1, 7, 1000} {
		got, err := entries(f, many)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, all) {
			t.Errorf("by %d: %d names, want %d, %v", many, len(got), len(all), err)
		}
	}
	// What is not taken comes again, also without an offset that moves.
	buf := make([]byte, DirBuffer)
	var first []string
	for range 3 {
		if err := f.Entries(0, buf, func(_ uint64, _ int64, _ uint8, name []byte) bool {
			first = append(first, string(name))
			return false
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(first) != 3 || first[0] != first[1] || first[0] != first[2] {
		t.Errorf("the first name is %q", first)
	}
	if got, err := entries(f, 100); err != nil || len(got) != len(all) {
		t.Errorf("after that: %d names, want %d, %v", len(got), len(all), err)
	}
}

func TestEntry(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "f", "")
	sub := mkdir(t, dir, "d")
	if err := os.Symlink("x", filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	tree := open(t, Share{Path: dir})
	read := func(n *Node) map[string]string {
		got := make(map[string]string)
		if err := openFile(t, n, unix.O_DIRECTORY).Entries(0, make([]byte, DirBuffer), func(ino uint64, _ int64, typ uint8, name []byte) bool {
			got[string(name)] = fmt.Sprint(typ, ino)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	is := func(typ int, p string) string { return fmt.Sprint(typ, lstat(t, p).Ino) }
	got := read(tree.Root())
	for name, want := range map[string]string{
		"f": is(unix.DT_REG, dir+"/f"), "d": is(unix.DT_DIR, sub), "s": is(unix.DT_LNK, dir+"/s"),
		".": is(unix.DT_DIR, dir), "..": is(unix.DT_DIR, dir), // what is above is nobody's business
	} {
		if got[name] != want {
			t.Errorf("%s: got %s, want %s", name, got[name], want)
		}
	}
	if got := read(at(t, tree, "d"))[".."]; got != is(unix.DT_DIR, dir) {
		t.Errorf("above d is %s", got)
	}
	want(t, "entries of a file", openFile(t, at(t, tree, "f"), 0).Entries(0, nil, nil), unix.ENOTDIR)
}
