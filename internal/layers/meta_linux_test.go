package layers

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMetadata checks everything that a layer can say of a file, on a mounted
// disk.
func TestMetadata(t *testing.T) {
	needRoot(t)
	when := time.Unix(1_700_000_000, 123_456_789)
	long := strings.Repeat("n", 255)
	deep := strings.Repeat("d/", 100) + long
	target := strings.Repeat("t", 300)
	acl := string([]byte{2, 0, 0, 0,
		1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
		2, 0, 5, 0, 0xe8, 3, 0, 0,
		4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
		0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
		0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	caps := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

	owned := file("owned", "x")
	owned.h.Uid, owned.h.Gid, owned.h.Mode, owned.h.ModTime, owned.h.Format = 100_000, 3_000_000_000, 0o6751, when, tar.FormatPAX
	old := file("old", "x")
	old.h.ModTime, old.h.Format = time.Unix(-5, 0), tar.FormatPAX
	sticky := dir("sticky")
	sticky.h.Mode, sticky.h.Uid = 0o1777, 7
	char := entry(tar.TypeChar, "char", 0o620, "")
	char.h.Devmajor, char.h.Devminor = 4, 70_000
	block := entry(tar.TypeBlock, "block", 0o600, "")
	block.h.Devmajor, block.h.Devminor = 259, 3
	many := file("many", "x")
	for i := range 20 {
		many = many.xattr(fmt.Sprintf("user.%d%s", i, strings.Repeat("k", i%3*10)), strings.Repeat("v", 60+i))
	}
	many = many.xattr("security.capability", caps).xattr("trusted.t", "1")

	raw := tarOf(t, owned, old, sticky, char, block, entry(tar.TypeFifo, "fifo", 0o600, ""), many,
		file(deep, "deep"), symlink("link", target), symlink("short", "s"), file("empty", ""),
		file("big", strings.Repeat("0123456789abcdef", 200_000)),
		file("zeros", strings.Repeat("\x00", 1<<20)+"end"),
		file("acl", "x").xattr("system.posix_acl_access", acl),
		file("steer", "x").xattr("trusted.overlay.redirect", "/etc").xattr("user.overlay.x", "1").xattr("system.data", "1").xattr("foo.x", "1"),
		tarEntry{h: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "global", PAXRecords: map[string]string{"comment": "x"}}})
	c := openCache(t, Config{})
	img := mustGet(t, c, simpleLayout(t, raw), GetOptions{})
	fsck(t, img.Layers[0].Path)
	at := mount(t, img.Layers[0].Path, "ro")

	stat := func(name string) syscall.Stat_t {
		var st syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(at, name), &st); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return st
	}
	if st := stat("owned"); st.Uid != 100_000 || st.Gid != 3_000_000_000 || st.Mode != syscall.S_IFREG|0o6751 ||
		st.Mtim.Sec != when.Unix() || st.Mtim.Nsec != 123_456_789 || st.Atim != st.Mtim {
		t.Errorf("owned: got %+v", st)
	}
	if st := stat("old"); st.Mtim.Sec != 0 {
		t.Errorf("old: got time %d, want 0", st.Mtim.Sec)
	}
	if st := stat("sticky"); st.Mode != syscall.S_IFDIR|0o1777 || st.Uid != 7 {
		t.Errorf("sticky: got %+v", st)
	}
	if st := stat("char"); st.Mode != syscall.S_IFCHR|0o620 || st.Rdev != unix.Mkdev(4, 70_000) {
		t.Errorf("char: got %+v", st)
	}
	if st := stat("block"); st.Mode != syscall.S_IFBLK|0o600 || st.Rdev != unix.Mkdev(259, 3) {
		t.Errorf("block: got %+v", st)
	}
	if st := stat("fifo"); st.Mode != syscall.S_IFIFO|0o600 {
		t.Errorf("fifo: got %+v", st)
	}
	for name, want := range map[string]string{
		deep: "deep", "empty": "", "big": strings.Repeat("0123456789abcdef", 200_000),
		"zeros": strings.Repeat("\x00", 1<<20) + "end",
	} {
		if b, err := os.ReadFile(filepath.Join(at, name)); err != nil || string(b) != want {
			t.Errorf("%.20s: %v, %d bytes, want %d", name, err, len(b), len(want))
		}
	}
	for name, want := range map[string]string{"link": target, "short": "s"} {
		if got, err := os.Readlink(filepath.Join(at, name)); err != nil || got != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for key, want := range many.h.PAXRecords {
		name := strings.TrimPrefix(key, xattrRecord)
		if got := getXattr(filepath.Join(at, "many"), name); got != want {
			t.Errorf("attribute %s: got %q, want %q", name, got, want)
		}
	}
	if got := getXattr(filepath.Join(at, "acl"), "system.posix_acl_access"); got != acl {
		t.Errorf("acl: got %x, want %x", got, acl)
	}
	b := make([]byte, 4096)
	if n, err := unix.Llistxattr(filepath.Join(at, "steer"), b); err != nil || n != 0 {
		t.Errorf("steer: got attributes %q, %v", b[:max(n, 0)], err)
	}
	if names := treeOf(t, at); slices.ContainsFunc(names, func(s string) bool { return strings.HasPrefix(s, "global") || strings.HasPrefix(s, "lost") }) {
		t.Errorf("got %v", names)
	}
	fi, err := os.Stat(img.Layers[0].Path)
	if err != nil || fi.Size()%diskAlign != 0 || fi.Size() != img.Layers[0].Size || fi.Mode().Perm() != 0o444 {
		t.Errorf("got disk of %d bytes, mode %v, %v", fi.Size(), fi.Mode(), err)
	}
}

func getXattr(path, name string) string {
	b := make([]byte, 8192)
	n, err := unix.Lgetxattr(path, name, b)
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}

// TestManyNames fills folders beyond one block and one group of inodes.
func TestManyNames(t *testing.T) {
	needRoot(t)
	var es []tarEntry
	for i := range 9_000 {
		es = append(es, file(fmt.Sprintf("d%d/%s%d", i%3, strings.Repeat("x", i%100), i), "y"))
	}
	c := openCache(t, Config{})
	img := mustGet(t, c, simpleLayout(t, tarOf(t, es...)), GetOptions{})
	fsck(t, img.Layers[0].Path)
	if got := treeOf(t, mount(t, img.Layers[0].Path, "ro")); len(got) != len(es)+3 {
		t.Errorf("got %d names, want %d", len(got), len(es)+3)
	}
}

// TestDeterministic makes a disk twice, and that of another layer.
func TestDeterministic(t *testing.T) {
	a := simpleLayout(t, tarOf(t, dir("d"), file("d/f", "1").xattr("user.b", "1").xattr("user.a", "2"), file("d/f", "2")))
	b := simpleLayout(t, tarOf(t, dir("d"), file("d/f", "3")))
	var disks [][]byte
	for _, ref := range []string{a, a, b} {
		img := mustGet(t, openCache(t, Config{MaxLayer: 1 << 30 * int64(1+len(disks))}), ref, GetOptions{})
		d, err := os.ReadFile(img.Layers[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		disks = append(disks, d)
	}
	if !bytes.Equal(disks[0], disks[1]) {
		t.Error("the same layer gave other bytes")
	}
	uuid := func(d []byte) string { return string(d[superOffset+sbUUID:][:16]) }
	if uuid(disks[0]) == uuid(disks[2]) {
		t.Error("two layers have one UUID")
	}
}

// TestImplied checks that folders which an archive leaves out keep the mode
// and owner that they have below.
func TestImplied(t *testing.T) {
	needRoot(t)
	tmp := dir("tmp")
	tmp.h.Mode = 0o1777
	home := dir("home")
	home.h.Mode = 0o711
	user := dir("home/u").xattr("user.k", "v")
	user.h.Mode, user.h.Uid, user.h.Gid = 0o700, 65532, 70000
	base := tarOf(t, tmp, home, user, dir("etc"), file("home/u/base", "1"))
	tests := []struct {
		name   string
		layers [][]byte
		disks  int
		want   map[string]string // mode and owner
	}{
		{"none needed", [][]byte{base, tarOf(t, file("etc/f", "1"))}, 2, map[string]string{"etc": "755 0:0"}},
		{"needed", [][]byte{base, tarOf(t, file("home/u/app/f", "1"), file("tmp/f", "1"))}, 3,
			map[string]string{"tmp": "1777 0:0", "home": "711 0:0", "home/u": "700 65532:70000", "home/u/app": "755 0:0", "etc": "755 0:0"}},
		{"twice implied", [][]byte{base, tarOf(t, file("tmp/f", "1")), tarOf(t, file("tmp/g", "1"))}, 4, map[string]string{"tmp": "1777 0:0"}},
		{"said above", [][]byte{base, tarOf(t, file("tmp/f", "1")), tarOf(t, dir("tmp"))}, 3, map[string]string{"tmp": "755 0:0"}},
		{"hidden between", [][]byte{base, tarOf(t, file(".wh.tmp", "")), tarOf(t, file("tmp/f", "1"))}, 3, map[string]string{"tmp": "755 0:0"}},
		{"opaque between", [][]byte{base, tarOf(t, file("home/.wh..wh..opq", "")), tarOf(t, file("home/u/f", "1"))}, 3,
			map[string]string{"home/u": "755 0:0", "home": "755 0:0"}},
		{"file between", [][]byte{base, tarOf(t, file("tmp", "")), tarOf(t, file("tmp/f", "1"))}, 3, map[string]string{"tmp": "755 0:0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			img := mustGet(t, openCache(t, Config{}), simpleLayout(t, tt.layers...), GetOptions{})
			if len(img.Layers) != tt.disks {
				t.Errorf("got %d disks, want %d", len(img.Layers), tt.disks)
			}
			at := unionOf(t, img)
			for name, want := range tt.want {
				var st syscall.Stat_t
				if err := syscall.Lstat(filepath.Join(at, name), &st); err != nil {
					t.Fatal(err)
				}
				if got := fmt.Sprintf("%o %d:%d", st.Mode&0o7777, st.Uid, st.Gid); got != want {
					t.Errorf("%s: got %s, want %s", name, got, want)
				}
			}
			if tt.name == "needed" && getXattr(filepath.Join(at, "home/u"), "user.k") != "v" {
				t.Error("the attribute is lost")
			}
		})
	}
}
