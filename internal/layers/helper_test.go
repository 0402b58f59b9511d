package layers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entry makes a header the short way.
func entry(typ byte, name string, mode int64, body string) tarEntry {
	h := tar.Header{Typeflag: typ, Name: name, Mode: mode}
	switch typ {
	case tar.TypeReg:
		h.Size = int64(len(body))
	case tar.TypeLink, tar.TypeSymlink:
		h.Linkname, body = body, ""
	}
	return tarEntry{h, body}
}

type tarEntry struct {
	h    tar.Header
	body string
}

func file(name, body string) tarEntry   { return entry(tar.TypeReg, name, 0o644, body) }
func dir(name string) tarEntry          { return entry(tar.TypeDir, name+"/", 0o755, "") }
func symlink(name, to string) tarEntry  { return entry(tar.TypeSymlink, name, 0o777, to) }
func hardlink(name, to string) tarEntry { return entry(tar.TypeLink, name, 0o644, to) }

func (e tarEntry) xattr(name, value string) tarEntry {
	if e.h.PAXRecords == nil {
		e.h.PAXRecords = map[string]string{}
	}
	e.h.PAXRecords[xattrRecord+name] = value
	return e
}

func tarOf(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if err := w.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func sha(b []byte) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(b))}
}

func gz(t testing.TB, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A layoutDir is an OCI layout folder that tests write, also wrongly.
type layoutDir string

func newLayout(t testing.TB) layoutDir {
	t.Helper()
	d := t.TempDir()
	if err := os.MkdirAll(filepath.Join(d, "blobs", "sha256"), 0o700); err != nil {
		t.Fatal(err)
	}
	return layoutDir(d)
}

func (l layoutDir) blob(t testing.TB, b []byte, typ types.MediaType) v1.Descriptor {
	t.Helper()
	h := sha(b)
	if err := os.WriteFile(l.blobPath(h), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return v1.Descriptor{MediaType: typ, Digest: h, Size: int64(len(b))}
}

func (l layoutDir) blobPath(h v1.Hash) string {
	return filepath.Join(string(l), "blobs", h.Algorithm, h.Hex)
}

// image writes an image of tar layers, gzipped, and returns its descriptor.
func (l layoutDir) image(t testing.TB, arch string, layers ...[]byte) v1.Descriptor {
	t.Helper()
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	conf := v1.ConfigFile{OS: "linux", Architecture: arch, RootFS: v1.RootFS{Type: "layers"}}
	conf.Config.Cmd = []string{"true"}
	for _, b := range layers {
		conf.RootFS.DiffIDs = append(conf.RootFS.DiffIDs, sha(b))
		m.Layers = append(m.Layers, l.blob(t, gz(t, b), types.OCILayer))
	}
	m.Config = l.blob(t, mustJSON(t, conf), types.OCIConfigJSON)
	d := l.blob(t, mustJSON(t, m), types.OCIManifestSchema1)
	d.Platform = &v1.Platform{OS: "linux", Architecture: arch}
	return d
}

func (l layoutDir) index(t testing.TB, ds ...v1.Descriptor) {
	t.Helper()
	b := mustJSON(t, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: ds})
	if err := os.WriteFile(filepath.Join(string(l), "index.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(string(l), "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600); err != nil {
		t.Fatal(err)
	}
}

// simpleLayout is a layout of one image for this host.
func simpleLayout(t testing.TB, layers ...[]byte) string {
	t.Helper()
	l := newLayout(t)
	l.index(t, l.image(t, runtime.GOARCH, layers...))
	return string(l)
}

func openCache(t testing.TB, cfg Config) *Cache {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "cache")
	}
	if cfg.Limit == 0 {
		cfg.Limit = -1
	}
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustGet(t testing.TB, c *Cache, ref string, o GetOptions) *Image {
	t.Helper()
	img, err := c.Get(context.Background(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return img
}

// noLeftovers checks that nothing unfinished is in the cache.
func noLeftovers(t testing.TB, c *Cache) {
	t.Helper()
	for _, d := range []string{"tmp", "locks"} {
		left, err := os.ReadDir(filepath.Join(c.Dir(), d))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range left {
			t.Errorf("left in the cache: %s/%s", d, e.Name())
		}
	}
}

func diskCount(t testing.TB, c *Cache) int {
	t.Helper()
	n, err := listDir(filepath.Join(c.Dir(), "layers"), "")
	if err != nil {
		t.Fatal(err)
	}
	return len(n) / 2
}

// fsck checks a disk.
func fsck(t testing.TB, path string) {
	t.Helper()
	tool, err := exec.LookPath("e2fsck")
	if err != nil {
		t.Skip("no e2fsck")
	}
	if out, err := exec.Command(tool, "-fn", path).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v: %.4000s", err, out)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs root on Linux")
	}
}

func run(t testing.TB, name string, arg ...string) {
	t.Helper()
	if out, err := exec.Command(name, arg...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, arg, err, out)
	}
}

// mount mounts a disk.
func mount(t testing.TB, disk, options string) string {
	t.Helper()
	at := t.TempDir()
	run(t, "mount", "-t", "ext4", "-o", "loop,"+options, disk, at)
	t.Cleanup(func() { run(t, "umount", at) })
	return at
}

// union mounts an image's layers as a container sees them, with a scratch
// disk on top.
func unionOf(t testing.TB, img *Image) string {
	t.Helper()
	needRoot(t)
	var lower []string
	for _, l := range img.Layers {
		fsck(t, l.Path)
		lower = append([]string{mount(t, l.Path, "ro")}, lower...)
	}
	scratch, err := NewScratch(t.TempDir(), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	top := mount(t, scratch, "rw")
	at := t.TempDir()
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "mount", "-t", "overlay", "overlay", "-o",
		"lowerdir="+strings.Join(lower, ":")+",upperdir="+top+"/upper,workdir="+top+"/work", at)
	t.Cleanup(func() { run(t, "umount", at) })
	return at
}
