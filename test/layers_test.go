//go:build linux

package test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/byrevm/byre/container"
)

// layerCount is more than there are slots for persistent memory, so that the
// rest must be SCSI disks.
const layerCount = 80

// Eighty layers in one container, the files of each seen through those above.
func TestEightyLayers(t *testing.T) {
	ctx := begin(t)
	base := busybox(t)
	var layers []v1.Layer
	for i := 1; i < layerCount; i++ { // the first is busybox
		files := map[string]string{"everywhere": fmt.Sprintf("layer %d\n", i), fmt.Sprintf("only/%d", i): fmt.Sprintf("%d\n", i)}
		switch i {
		case 20, 70: // one is persistent memory, one is SCSI
			files[fmt.Sprintf("gone/%d", i)] = "a whiteout must hide this"
			files[fmt.Sprintf("dir%d/old", i)] = "an opaque folder must hide this"
		case 21, 71:
			files[fmt.Sprintf("gone/.wh.%d", i-1)] = ""
			files[fmt.Sprintf("dir%d/.wh..wh..opq", i-1)] = ""
			files[fmt.Sprintf("dir%d/new", i-1)] = ""
		}
		layers = append(layers, layer(t, files))
	}
	img, err := mutate.AppendLayers(base, layers...)
	if err != nil {
		t.Fatal(err)
	}
	many := open(ctx, t, write(t, img))
	if n := len(many.Layers()); n != layerCount {
		t.Fatalf("%d layers, want %d", n, layerCount)
	}
	vm := boot(ctx, t, options(t))
	c := add(ctx, t, vm, many, container.SpecOptions{Args: []string{"sh", "-c",
		"cat /everywhere; ls /only | wc -l; cat /only/1 /only/79; ls /gone | wc -l; ls /dir20 /dir70; echo new >/everywhere; cat /everywhere"}})
	want := "layer 79\n79\n1\n79\n0\n/dir20:\nnew\n\n/dir70:\nnew\nnew\n"
	if got := finish(ctx, t, c.Init()); got.stdout != want || got.code != 0 {
		t.Errorf("got %q, stderr %q, code %d; want %q", got.stdout, got.stderr, got.code, want)
	}
	step(t, "again", func(ctx context.Context, t *testing.T) { // after all have been taken out
		if err := c.Delete(ctx); err != nil {
			t.Fatal(err)
		}
		c := add(ctx, t, vm, many, container.SpecOptions{ReadOnly: true, Args: []string{"cat", "/only/1", "/only/79"}})
		if got := finish(ctx, t, c.Init()); got != (outcome{"1\n79\n", "", 0}) {
			t.Errorf("got %+v", got)
		}
	})
}

// busybox returns the image that the tests are given.
func busybox(t testing.TB) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(testImage(t))
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) == 0 {
		t.Fatalf("the image has no manifest: %v", err)
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// layer makes a layer of files.
func layer(t testing.TB, files map[string]string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	dirs := make(map[string]bool)
	put := func(h *tar.Header, text string) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	for name, text := range files {
		if dir := filepath.Dir(name); dir != "." && !dirs[dir] {
			dirs[dir] = true
			put(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
		}
		mode := int64(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		put(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(text))}, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// write writes an image as a layout folder and returns its path.
func write(t testing.TB, img v1.Image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	if _, err := layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})); err != nil {
		t.Fatal(err)
	}
	return dir
}
