package layers

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"testing"
)

// TestRandomStacks compares unions of random layers with what a plain unpacker
// makes of them in a folder.
func TestRandomStacks(t *testing.T) {
	needRoot(t)
	compared := 0
	for seed := uint64(0); seed < 3000 && compared < 25; seed++ {
		rnd := rand.New(rand.NewPCG(seed, 1))
		d := t.TempDir()
		root, err := os.OpenRoot(d)
		if err != nil {
			t.Fatal(err)
		}
		var layers [][]byte
		var log strings.Builder
		for n := range 3 {
			es := randomLayer(rnd, n)
			if err = unpack(root, es); err != nil {
				break
			}
			for _, e := range es {
				fmt.Fprintf(&log, "%d: %c %s %s\n", n, e.h.Typeflag, e.h.Name, e.h.Linkname)
			}
			layers = append(layers, tarOf(t, es...))
		}
		root.Close()
		if err != nil {
			continue // nothing to compare with
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			img, err := openCache(t, Config{}).Get(t.Context(), simpleLayout(t, layers...), GetOptions{})
			if errors.Is(err, ErrInvalid) || errors.Is(err, ErrNotFound) {
				return // contradicts itself: a whiteout in what becomes a file, …
			}
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			got, want := strings.Join(treeOf(t, unionOf(t, img)), "\n"), strings.Join(treeOf(t, d), "\n")
			if got != want {
				t.Errorf("got\n%s\nwant\n%s\nentries\n%s", got, want, log.String())
			}
			compared++
		})
	}
	if compared < 25 {
		t.Errorf("only %d stacks could be compared", compared)
	}
}

// randomLayer has entries of all kinds that get in each other's way.
func randomLayer(rnd *rand.Rand, layer int) []tarEntry {
	names := []string{"a", "b", "c", "a/b", "a/c", "b/a", "b/c", "a/b/c", "c/a/b", "lost+found", "lost+found/a"}
	pick := func() string { return names[rnd.IntN(len(names))] }
	var es []tarEntry
	for i := range rnd.IntN(12) {
		name := pick()
		switch rnd.IntN(8) {
		case 0, 1:
			es = append(es, dir(name))
		case 2, 3:
			es = append(es, file(name, fmt.Sprint(layer, i)))
		case 4:
			es = append(es, symlink(name, path.Base(pick())))
		case 5:
			es = append(es, hardlink(name, pick()))
		case 6:
			es = append(es, file(path.Join(path.Dir(name), ".wh."+path.Base(name)), ""))
		case 7:
			es = append(es, file(path.Join(name, ".wh..wh..opq"), ""))
		}
	}
	return es
}

// unpack applies a layer to a folder: whiteouts, which only concern layers
// below, then the other entries.
func unpack(root *os.Root, es []tarEntry) error {
	isDir := func(name string) bool {
		fi, err := root.Lstat(name)
		return err == nil && fi.IsDir()
	}
	touched := map[string]bool{}
	for _, e := range es {
		at, base := path.Split(e.h.Name)
		hidden, ok := strings.CutPrefix(base, ".wh.")
		if !ok {
			continue
		}
		if touched[path.Join(at, hidden)] {
			return errors.New("whiteout of whiteouts")
		}
		for p := path.Clean(at); p != "."; p = path.Dir(p) {
			touched[p] = true
		}
		if hidden == ".wh..opq" {
			at = path.Clean(at)
			if !isDir(at) {
				return errors.New("opaque, but no folder")
			}
			f, err := root.Open(at)
			if err != nil {
				return err
			}
			names, err := f.Readdirnames(-1)
			f.Close()
			if err != nil {
				return err
			}
			for _, n := range names {
				if err := root.RemoveAll(path.Join(at, n)); err != nil {
					return err
				}
			}
			continue
		}
		if at = path.Clean(at); at != "." {
			if !isDir(at) {
				return errors.New("whiteout in no folder")
			}
		}
		if err := root.RemoveAll(path.Join(at, hidden)); err != nil {
			return err
		}
	}
	made := map[string]bool{}
	for _, e := range es {
		name := path.Clean(e.h.Name)
		if strings.HasPrefix(path.Base(name), ".wh.") {
			continue
		}
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		if e.h.Typeflag == tar.TypeLink {
			if !made[e.h.Linkname] || isDir(e.h.Linkname) {
				return errors.New("link to another layer")
			}
			if e.h.Linkname == name {
				continue
			}
		}
		if !(isDir(name) && e.h.Typeflag == tar.TypeDir) {
			if err := root.RemoveAll(name); err != nil {
				return err
			}
		}
		var err error
		switch e.h.Typeflag {
		case tar.TypeDir:
			if err = root.Mkdir(name, 0o755); errors.Is(err, fs.ErrExist) {
				err = nil
			}
		case tar.TypeReg:
			err = root.WriteFile(name, []byte(e.body), 0o644)
		case tar.TypeSymlink:
			err = root.Symlink(e.h.Linkname, name)
		case tar.TypeLink:
			err = root.Link(e.h.Linkname, name)
		}
		if err != nil {
			return err
		}
		for p := name; p != "."; p = path.Dir(p) {
			made[p] = true
		}
	}
	return nil
}
