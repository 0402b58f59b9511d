package golden

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lab is the folder under which all files of the recordings lie.
const lab = `C:\lab`

// fixtures are the files of the recordings, with their sizes; a folder has
// the size -1.
var fixtures = map[string]int{
	"boot/kernel": 1024, "boot/initrd.img": 1024, "boot/rootfs.vhd": 1024, "boot/rootfs2.vhdx": 1024,
	"boot/vmlinux": 1024, "boot/custom-kernel": 1024, "boot/custom.img": 1024,
	"boot-initrd/kernel": 10, "boot-initrd/initrd.img": 10,
	"disks/a.vhdx": 4096, "disks/b.vhdx": 4096, "disks/c.vhdx": 4096, "disks/data.vhdx": 512,
	"layers/a.vhd": 4096, "layers/b.vhd": 4096,
	"share/f1.txt": 3, "vs/dir1": -1, "vs/dir2": -1, "vs/files/one.txt": 1, "vs/files/two.txt": 1,
	"wcow/top": -1, "wcow/base/UtilityVM/SystemTemplate.vhdx": 4096, "wcow/base/UtilityVM/Files": -1, "wcow/base/Files": -1,
	"lcow/l1/layer.vhd": 4096, "lcow/l2/layer.vhd": 4096, "lcow/scratch/sandbox.vhdx": 4096,
	"wctr/l1/Files": -1, "wctr/l2/Files": -1, "wctr/scratch/sandbox.vhdx": 4096,
}

// A labAt is where lab is on this host.
type labAt string

func newLab(t testing.TB, rec *Recording) labAt {
	root := labAt(t.TempDir())
	for name, size := range fixtures {
		root.fixture(t, name, size)
	}
	for i := range 65 {
		if name := fmt.Sprintf("disks/fill%02d.vhdx", i); rec.names(filepath.Base(name)) {
			root.fixture(t, name, 512)
		}
	}
	return root
}

func (root labAt) fixture(t testing.TB, name string, size int) {
	t.Helper()
	p := filepath.Join(string(root), filepath.FromSlash(name))
	dir := filepath.Dir(p)
	if size < 0 {
		dir = p
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if size >= 0 {
		if err := os.WriteFile(p, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// here returns a path of the recording on this host.
func (root labAt) here(s string) string {
	if rest, ok := strings.CutPrefix(s, lab); ok && (rest == "" || rest[0] == '\\') {
		return string(root) + filepath.FromSlash(strings.ReplaceAll(rest, `\`, "/"))
	}
	return s
}

// allHere returns v with the paths of the recording as this host has them.
func (root labAt) allHere(v any) any { return mapStrings(v, root.here) }

// there returns v with the paths of this host as the recording has them.
func (root labAt) there(v any) any {
	return mapStrings(v, func(s string) string {
		if rest, ok := strings.CutPrefix(s, string(root)); ok {
			return lab + strings.ReplaceAll(filepath.ToSlash(rest), "/", `\`)
		}
		return s
	})
}

// mapStrings replaces every string in v.
func mapStrings(v any, f func(string) string) any {
	switch v := v.(type) {
	case string:
		return f(v)
	case []any:
		for i := range v {
			v[i] = mapStrings(v[i], f)
		}
	case map[string]any:
		for k := range v {
			v[k] = mapStrings(v[k], f)
		}
	}
	return v
}
