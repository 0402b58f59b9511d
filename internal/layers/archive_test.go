package layers

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// archiveOf is a folder as a tar file.
func archiveOf(t testing.TB, d string) []byte {
	t.Helper()
	var es []tarEntry
	err := fs.WalkDir(os.DirFS(d), ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(d, p))
		es = append(es, file("./"+p, string(b)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tarOf(t, es...)
}

func write(t testing.TB, b []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(p, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// dockerSave is an archive as docker save made them before it wrote layouts:
// the second image's layer is a link to the first's.
func dockerSave(t testing.TB) []tarEntry {
	a, b := tarOf(t, file("f", "1")), tarOf(t, file("f", "2"))
	conf := mustJSON(t, v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{sha(a), sha(b)}}})
	other := mustJSON(t, v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, Author: "other",
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{sha(a)}}})
	return []tarEntry{
		dir("x"), file("x/layer.tar", string(a)), dir("y"), file("y/layer.tar", string(b)),
		symlink("z/layer.tar", "../x/layer.tar"),
		file(sha(conf).Hex+".json", string(conf)), file(sha(other).Hex+".json", string(other)),
		file("manifest.json", string(mustJSON(t, []dockerImage{
			{sha(conf).Hex + ".json", []string{"one:1"}, []string{"x/layer.tar", "y/layer.tar"}},
			{sha(other).Hex + ".json", []string{"other:latest"}, []string{"z/layer.tar"}},
		}))),
	}
}

func TestLocal(t *testing.T) {
	layer := tarOf(t, file("f", "1"))
	two := newLayout(t)
	one, other := two.image(t, runtime.GOARCH, layer), two.image(t, runtime.GOARCH, layer, tarOf(t))
	one.Annotations = map[string]string{refName: "1.0", imageName: "docker.io/library/one:1.0"}
	other.Annotations = map[string]string{refName: "other"}
	two.index(t, one, other)
	multi := newLayout(t)
	multi.index(t, multi.image(t, "mips", layer), multi.image(t, runtime.GOARCH, layer))
	bare := newLayout(t)
	d := bare.image(t, runtime.GOARCH, layer)
	d.Platform, d.MediaType = nil, ""
	bare.index(t, d)
	nested := newLayout(t)
	inner := mustJSON(t, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{nested.image(t, runtime.GOARCH, layer)}})
	nested.index(t, nested.blob(t, inner, types.OCIImageIndex))
	oci := write(t, archiveOf(t, simpleLayout(t, layer)))
	docker := write(t, tarOf(t, dockerSave(t)...))
	tests := []struct {
		name, ref string
		layers    int
		want      error
	}{
		{"folder", simpleLayout(t, layer), 1, nil},
		{"folder of two", string(two), 0, ErrInvalid},
		{"by tag", string(two) + ":1.0", 1, nil},
		{"by name", string(two) + ":one:1.0", 1, nil},
		{"by digest", string(two) + ":" + other.Digest.String(), 2, nil},
		{"by unknown name", string(two) + ":x", 0, ErrNotFound},
		{"platforms", string(multi), 1, nil},
		{"no platform", string(bare), 1, nil},
		{"index in the index", string(nested), 1, nil},
		{"OCI archive", oci, 1, nil},
		{"packed OCI archive", write(t, gz(t, archiveOf(t, simpleLayout(t, layer)))), 1, nil},
		{"docker", docker, 0, ErrInvalid},
		{"docker by name", docker + ":one:1", 2, nil},
		{"docker by linked layer", docker + ":other", 1, nil},
		{"docker by unknown name", docker + ":nix", 0, ErrNotFound},
		{"packed docker", write(t, zstdOf(t, tarOf(t, dockerSave(t)...))) + ":one:1", 2, nil},
		{"nothing", "/nonexistent/image", 0, fs.ErrNotExist},
		{"empty folder", t.TempDir(), 0, fs.ErrNotExist},
		{"no image", write(t, tarOf(t, file("f", ""))), 0, ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := openCache(t, Config{})
			img, err := c.Get(t.Context(), tt.ref, GetOptions{Pull: PullNever})
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			noLeftovers(t, c)
			if tt.name == "folder of two" && !strings.HasSuffix(fmt.Sprint(err), "name one: docker.io/library/one:1.0, other") {
				t.Errorf("got %v", err)
			}
			if err != nil {
				return
			}
			defer img.Close()
			if len(img.Layers) != tt.layers || img.Ref != tt.ref || !strings.HasPrefix(img.Digest, "sha256:") {
				t.Errorf("got %+v, want %d layers", img, tt.layers)
			}
		})
	}
}

func zstdOf(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// TestPacking has layers packed in all ways, and said to be packed otherwise.
func TestPacking(t *testing.T) {
	l := newLayout(t)
	raw := [][]byte{tarOf(t, file("a", "1")), tarOf(t, file("b", "1")), tarOf(t, file("c", "1")), nil, make([]byte, 1024),
		tarOf(t, file("d", "1")), tarOf(t, file("e", "1")), tarOf(t, file("f", "1"))}
	const skipped = "\x5f\x2a\x4d\x18\x03\x00\x00\x00any" // a frame of zstd to skip
	packed := [][]byte{raw[0], gz(t, raw[1]), zstdOf(t, raw[2]), gz(t, raw[3]), raw[4], append([]byte(skipped), zstdOf(t, raw[5])...),
		// In several pieces, as programs that pack in parallel do.
		append(zstdOf(t, raw[6][:700]), zstdOf(t, raw[6][700:])...), append(gz(t, raw[7][:700]), gz(t, raw[7][700:])...)}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	var ids []v1.Hash
	for i := range raw {
		ids = append(ids, sha(raw[i]))
		m.Layers = append(m.Layers, l.blob(t, packed[i], types.DockerLayer))
	}
	m.Config = l.blob(t, mustJSON(t, v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{DiffIDs: ids}}), types.OCIConfigJSON)
	l.index(t, l.blob(t, mustJSON(t, m), types.OCIManifestSchema1))
	img := mustGet(t, openCache(t, Config{}), string(l), GetOptions{})
	if len(img.Layers) != len(raw) {
		t.Errorf("got %d layers, want %d", len(img.Layers), len(raw))
	}
	for _, d := range img.Layers {
		fsck(t, d.Path)
	}
}

// TestHostile has images that are broken on purpose. Nothing of the broken
// layer may stay.
func TestHostile(t *testing.T) {
	good := tarOf(t, file("f", strings.Repeat("x", 5000)))
	// one is a layout of one layer that edit breaks.
	one := func(edit func(l layoutDir, m *v1.Manifest, conf *v1.ConfigFile)) string {
		l := newLayout(t)
		conf := v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{DiffIDs: []v1.Hash{sha(good)}}}
		m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{l.blob(t, gz(t, good), types.OCILayer)}}
		edit(l, &m, &conf)
		if m.Config.Size == 0 {
			m.Config = l.blob(t, mustJSON(t, conf), types.OCIConfigJSON)
		}
		l.index(t, l.blob(t, mustJSON(t, m), types.OCIManifestSchema1))
		return string(l)
	}
	raw := func(b []byte) string {
		return one(func(l layoutDir, m *v1.Manifest, conf *v1.ConfigFile) {
			m.Layers[0] = l.blob(t, b, types.OCILayer)
			conf.RootFS.DiffIDs[0] = sha(b)
		})
	}
	damage := func(n int64, at int64) string {
		return one(func(l layoutDir, m *v1.Manifest, _ *v1.ConfigFile) {
			p := l.blobPath(m.Layers[0].Digest)
			b, _ := os.ReadFile(p)
			if n < 0 {
				b = b[:int64(len(b))+n]
			} else {
				b[int64(len(b))-at] ^= byte(n)
			}
			os.WriteFile(p, b, 0o600)
		})
	}
	bigXattr := file("f", "").xattr("user.x", strings.Repeat("v", 5000))
	manyXattr := file("f", "")
	for i := range 100 {
		manyXattr = manyXattr.xattr("user."+strings.Repeat("n", i+1), strings.Repeat("v", 100))
	}
	dev := entry(tar.TypeChar, "dev", 0, "")
	dev.h.Devmajor = 5000
	owner := file("f", "")
	owner.h.Uid, owner.h.Format = 1<<32-1, tar.FormatPAX
	var deep []tarEntry
	for i := range 50 {
		deep = append(deep, file(fmt.Sprint("d", i, strings.Repeat("/d", 1000)), ""))
	}
	loop := []tarEntry{symlink("a", "b"), symlink("b", "a"), file("a/f", "")}
	docker := dockerSave(t)
	docker[1].body = string(tarOf(t, file("f", "3")))
	docker[1].h.Size = int64(len(docker[1].body))
	renamed := dockerSave(t)
	renamed[5].body = strings.Replace(renamed[5].body, "linux", "linuy", 1)

	tests := []struct {
		name, ref string
		want      error
	}{
		{"wrong diff ID", one(func(_ layoutDir, _ *v1.Manifest, c *v1.ConfigFile) { c.RootFS.DiffIDs[0] = sha([]byte("x")) }), ErrDigest},
		{"wrong digest", one(func(l layoutDir, m *v1.Manifest, _ *v1.ConfigFile) {
			// The same content, packed otherwise.
			os.WriteFile(l.blobPath(m.Layers[0].Digest), good, 0o600)
		}), ErrDigest},
		{"flipped bit", damage(1, 100), errAny},
		{"truncated", damage(-100, 0), errAny},
		{"layer missing", one(func(l layoutDir, m *v1.Manifest, _ *v1.ConfigFile) { os.Remove(l.blobPath(m.Layers[0].Digest)) }), ErrNotFound},
		{"configuration damaged", one(func(l layoutDir, m *v1.Manifest, c *v1.ConfigFile) {
			m.Config = l.blob(t, mustJSON(t, c), types.OCIConfigJSON)
			os.WriteFile(l.blobPath(m.Config.Digest), []byte(`{"x":1}`), 0o600)
		}), ErrDigest},
		{"too few layers", one(func(_ layoutDir, m *v1.Manifest, _ *v1.ConfigFile) { m.Layers = nil }), ErrInvalid},
		{"no layers", one(func(_ layoutDir, m *v1.Manifest, c *v1.ConfigFile) { m.Layers, c.RootFS.DiffIDs = nil, nil }), ErrInvalid},
		{"digest of nothing", one(func(_ layoutDir, _ *v1.Manifest, c *v1.ConfigFile) {
			c.RootFS.DiffIDs[0] = v1.Hash{Algorithm: "sha256", Hex: "../../../etc"}
		}), ErrInvalid},
		{"other algorithm", one(func(_ layoutDir, m *v1.Manifest, _ *v1.ConfigFile) { m.Layers[0].Digest.Algorithm = "md5" }), errAny},
		{"not a layer", one(func(_ layoutDir, m *v1.Manifest, _ *v1.ConfigFile) { m.Layers[0].MediaType = "text/plain" }), ErrInvalid},
		{"no configuration", one(func(_ layoutDir, m *v1.Manifest, _ *v1.ConfigFile) { m.Config.Size = maxConfig + 1 }), errAny},
		{"not tar", raw(bytes.Repeat([]byte("junk"), 1000)), errAny},
		{"truncated tar", raw(good[:1000]), errAny},
		{"too large", raw(tarOf(t, file("f", strings.Repeat("x", 3<<20)))), ErrTooLarge},
		{"bomb", one(func(l layoutDir, m *v1.Manifest, c *v1.ConfigFile) {
			zeros := tarOf(t, file("f", strings.Repeat("\x00", 64<<20)))
			m.Layers[0] = l.blob(t, gz(t, zeros), types.OCILayer)
			c.RootFS.DiffIDs[0] = sha(zeros)
		}), ErrTooLarge},
		{"sparse bomb", raw(sparseBomb()), ErrTooLarge},
		{"too many files", raw(tarOf(t, manyFiles(2000)...)), ErrTooLarge},
		{"too deep", raw(tarOf(t, deep...)), ErrTooLarge},
		{"too many links followed", raw(tarOf(t, zigzag()...)), ErrTooLarge},
		{"link loop", raw(tarOf(t, loop...)), ErrInvalid},
		{"link to nothing", raw(tarOf(t, hardlink("a", "b"))), ErrNotFound},
		{"link to a folder", raw(tarOf(t, dir("d"), hardlink("a", "d"))), ErrInvalid},
		{"link to outside", raw(tarOf(t, hardlink("a", "../../../etc/passwd"))), ErrNotFound},
		{"file below a file", raw(tarOf(t, file("a", ""), file("a/b", ""))), ErrInvalid},
		{"root is a file", raw(tarOf(t, entry(tar.TypeFifo, ".", 0, ""))), ErrInvalid},
		{"empty symbolic link", raw(tarOf(t, symlink("a", ""))), ErrInvalid},
		{"long symbolic link", raw(tarOf(t, symlink("a", strings.Repeat("x", 5000)))), ErrInvalid},
		{"long name", raw(tarOf(t, file(strings.Repeat("n", 256), ""))), ErrInvalid},
		{"long path", raw(tarOf(t, file(strings.Repeat("nn/", 2000)+"n", ""))), ErrInvalid},
		{"whiteout of nothing", raw(tarOf(t, file(".wh.", ""))), ErrInvalid},
		{"whiteout of ..", raw(tarOf(t, file("d/.wh...", ""))), ErrInvalid},
		{"large attribute", raw(tarOf(t, bigXattr)), ErrTooLarge},
		{"many attributes", raw(tarOf(t, manyXattr)), errAny},
		{"bad ACL", raw(tarOf(t, file("f", "").xattr("system.posix_acl_access", "abcd"))), ErrInvalid},
		{"device", raw(tarOf(t, dev)), ErrInvalid},
		{"owner", raw(tarOf(t, owner)), ErrInvalid},
		{"our alias", raw(tarOf(t, file(lostAlias, ""))), ErrInvalid},
		{"docker layer", write(t, tarOf(t, docker...)) + ":one:1", ErrDigest},
		{"docker configuration", write(t, tarOf(t, renamed...)) + ":one:1", ErrDigest},
		{"truncated archive", write(t, tarOf(t, dockerSave(t)...)[:3000]), errAny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := openCache(t, Config{MaxLayer: 2 << 20, MaxFiles: 1000})
			img, err := c.Get(t.Context(), tt.ref, GetOptions{})
			if err == nil {
				img.Close()
				t.Fatal("got the image")
			}
			if tt.want != errAny && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if n := diskCount(t, c); n != 0 && !strings.HasPrefix(tt.name, "docker") {
				t.Errorf("got %d disks", n)
			}
			noLeftovers(t, c)
		})
	}
}

// zigzag has long ways to short names.
func zigzag() []tarEntry {
	es := []tarEntry{dir("a/b"), symlink("s", strings.Repeat("a/../", 800)+"a")}
	for i := range 900 {
		es = append(es, file(fmt.Sprint("s/b/../../s/b/../../s/b/f", i%9), ""))
	}
	return es
}

func manyFiles(n int) []tarEntry {
	var es []tarEntry
	for i := range n {
		es = append(es, file(strings.Repeat("x", i%200+1)+string(rune('a'+i/200)), ""))
	}
	return es
}

// sparseBomb is an archive of one file of 8 TiB, all of it a hole.
func sparseBomb() []byte {
	var buf bytes.Buffer
	b := make([]byte, 512)
	copy(b, "bomb")
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], "00000000000\x0000000000000\x00        ")
	b[156] = 'S'
	copy(b[257:], "ustar  \x00")
	copy(b[386:], "00000000000\x0000000000000\x00")
	// Base 256: 1 << 43.
	b[483], b[484+5] = 0x80, 8
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], strings.ToLower(string([]byte{
		'0' + byte(sum>>15&7), '0' + byte(sum>>12&7), '0' + byte(sum>>9&7), '0' + byte(sum>>6&7), '0' + byte(sum>>3&7), '0' + byte(sum&7), 0, ' '})))
	buf.Write(b)
	buf.Write(make([]byte, 1024))
	return buf.Bytes()
}
