package layers

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(child(role))
	}
	os.Exit(m.Run())
}

// tree lists a mounted union: a line for each name, with what it is.
func treeOf(t testing.TB, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		name := strings.TrimPrefix(p, root+"/")
		switch {
		case e.IsDir():
			name += "/"
		case e.Type() == fs.ModeSymlink:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			name += " -> " + to
		case e.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			name += fmt.Sprintf(" = %.20s", b)
		default:
			name += " " + e.Type().String()
		}
		out = append(out, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(out)
	return out
}

func TestUnion(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name   string
		layers [][]tarEntry
		want   []string
	}{
		{"plain", [][]tarEntry{{dir("a"), file("a/f", "1"), symlink("a/s", "f"), hardlink("b", "a/f")}},
			[]string{"a/", "a/f = 1", "a/s -> f", "b = 1"}},
		{"empty layer", [][]tarEntry{{file("f", "1")}, {}}, []string{"f = 1"}},
		{"whiteout of a file", [][]tarEntry{{file("f", "1"), file("g", "1")}, {file(".wh.f", "")}}, []string{"g = 1"}},
		{"whiteout of a folder", [][]tarEntry{{dir("d"), file("d/f", "1")}, {file(".wh.d", "")}}, nil},
		{"opaque", [][]tarEntry{{dir("d"), file("d/f", "1")}, {dir("d"), file("d/.wh..wh..opq", ""), file("d/g", "2")}},
			[]string{"d/", "d/g = 2"}},
		{"opaque first", [][]tarEntry{{dir("d"), file("d/f", "1")}, {file("d/.wh..wh..opq", ""), dir("d"), file("d/g", "2")}},
			[]string{"d/", "d/g = 2"}},
		{"opaque root", [][]tarEntry{{file("f", "1")}, {file(".wh..wh..opq", ""), file("g", "2")}}, []string{"g = 2"}},
		{"whiteout then file", [][]tarEntry{{file("f", "1")}, {file(".wh.f", ""), file("f", "2")}}, []string{"f = 2"}},
		{"file then whiteout", [][]tarEntry{{file("f", "1")}, {file("f", "2"), file(".wh.f", "")}}, []string{"f = 2"}},
		{"whiteout then folder", [][]tarEntry{{dir("d"), file("d/f", "1")}, {file(".wh.d", ""), dir("d"), file("d/g", "2")}},
			[]string{"d/", "d/g = 2"}},
		{"folder then whiteout", [][]tarEntry{{dir("d"), file("d/f", "1")}, {dir("d"), file("d/g", "2"), file(".wh.d", "")}},
			[]string{"d/", "d/g = 2"}},
		{"whiteout then a file in it", [][]tarEntry{{dir("d"), file("d/f", "1")}, {file(".wh.d", ""), file("d/g", "2")}},
			[]string{"d/", "d/g = 2"}},
		{"whiteout in an opaque folder", [][]tarEntry{{dir("d"), file("d/f", "1")}, {dir("d"), file("d/.wh..wh..opq", ""), file("d/.wh.f", "")}},
			[]string{"d/"}},
		{"aufs housekeeping", [][]tarEntry{{file(".wh..wh.plnk", ""), file(".wh..wh.aufs", ""), file("f", "1")}}, []string{"f = 1"}},
		{"same layer twice", [][]tarEntry{{file("f", "1")}, {file("f", "2")}, {file("f", "1")}}, []string{"f = 1"}},
		{"file twice", [][]tarEntry{{file("f", strings.Repeat("1", 9000)), file("g", "g"), file("f", "2")}}, []string{"f = 2", "g = g"}},
		{"linked file replaced", [][]tarEntry{{file("f", "1"), hardlink("g", "f"), hardlink("h", "f"), file("f", "2")}},
			[]string{"f = 2", "g = 1", "h = 1"}},
		{"file becomes folder", [][]tarEntry{{file("f", "1"), dir("f"), file("f/g", "2")}}, []string{"f/", "f/g = 2"}},
		{"folder becomes file", [][]tarEntry{{dir("f"), file("f/g", "2"), file("f", "1")}}, []string{"f = 1"}},
		{"folder becomes link", [][]tarEntry{{dir("d"), file("d/g", "2"), dir("e"), symlink("d", "e"), file("d/h", "3")}},
			[]string{"d -> e", "e/", "e/h = 3"}},
		{"through a link", [][]tarEntry{{symlink("lib", "usr/lib"), file("lib/f", "1"), hardlink("g", "lib/f")}},
			[]string{"g = 1", "lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/f = 1"}},
		{"no folders", [][]tarEntry{{file("a/b/c", "1")}}, []string{"a/", "a/b/", "a/b/c = 1"}},
		{"lost+found file", [][]tarEntry{{file("lost+found", "1")}}, []string{"lost+found = 1"}},
		{"lost+found folder", [][]tarEntry{{dir("lost+found"), file("lost+found/f", "1")}},
			[]string{"lost+found/", "lost+found/f = 1"}},
		{"lost+found hidden", [][]tarEntry{{dir("lost+found"), file("lost+found/f", "1")}, {file(".wh.lost+found", "")}}, nil},
		{"outside", [][]tarEntry{{file("../../f", "1"), file("/g", "2"), symlink("s", "/etc/passwd"), file("a/../../h", "3")}},
			[]string{"f = 1", "g = 2", "h = 3", "s -> /etc/passwd"}},
		{"through a link below", [][]tarEntry{{symlink("lib", "usr/lib"), dir("usr/lib"), file("usr/lib/a", "1")},
			{file("lib/f", "2"), hardlink("lib/g", "lib/f"), file("lib/.wh.a", "")}},
			[]string{"lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/f = 2", "usr/lib/g = 2"}},
		{"through links below", [][]tarEntry{{symlink("a", "/b/"), dir("x/y")}, {symlink("b", "x/y"), symlink("x/y/z", "../w")}, {file("a/z/f", "2")}},
			[]string{"a -> /b/", "b -> x/y", "x/", "x/w/", "x/w/f = 2", "x/y/", "x/y/z -> ../w"}},
		{"in place of a link below", [][]tarEntry{{symlink("a", "b"), file("b/f", "1")}, {dir("a"), file("a/g", "2")}},
			[]string{"a/", "a/g = 2", "b/", "b/f = 1"}},
		{"hidden link below", [][]tarEntry{{symlink("a", "b"), file("b/f", "1")}, {file(".wh.a", ""), file("a/g", "2")}},
			[]string{"a/", "a/g = 2", "b/", "b/f = 1"}},
		{"long link below", [][]tarEntry{{symlink("a", strings.Repeat("b/../", 50)+"b"), dir("b")}, {file("a/g", "2")}},
			[]string{"a -> " + strings.Repeat("b/../", 50) + "b", "b/", "b/g = 2"}},
		{"link out of the root", [][]tarEntry{{symlink("s", "/../../x"), file("s/f", "1")}},
			[]string{"s -> /../../x", "x/", "x/f = 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var layers [][]byte
			for _, l := range tt.layers {
				layers = append(layers, tarOf(t, l...))
			}
			c := openCache(t, Config{})
			img := mustGet(t, c, simpleLayout(t, layers...), GetOptions{})
			got := treeOf(t, unionOf(t, img))
			sort.Strings(tt.want)
			if g, w := strings.Join(got, "\n"), strings.Join(tt.want, "\n"); g != w {
				t.Errorf("got\n%s\nwant\n%s", g, w)
			}
			noLeftovers(t, c)
		})
	}
}
