package layers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Limits of what is read into memory.
const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxLayers   = 512
	maxNesting  = 4 // of indexes
)

// blobs is where the parts of an OCI image are.
type blobs interface {
	// manifest reads a manifest or index.
	manifest(ctx context.Context, d v1.Descriptor) ([]byte, error)
	// blob opens a configuration or layer.
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	// remote reports whether blobs are worth a copy before they are read.
	remote() bool
}

// An imageSource is an image that was found, with its layers still packed.
type imageSource struct {
	digest   v1.Hash
	manifest []byte // empty for docker save, which has none
	rawConf  []byte
	config   v1.ConfigFile
	layers   []layerSource
}

// A layerSource is one packed layer.
type layerSource struct {
	diffID   v1.Hash
	digest   v1.Hash // of the packed layer; empty if nothing tells it
	size     int64   // of the packed layer
	remote   bool
	open     func(ctx context.Context) (io.ReadCloser, error)
	progress *progress
	links    map[string]string // of layers below, that paths go through
}

func (l layerSource) report(stage string) func(int) {
	return l.progress.layer(stage, l.diffID.String(), l.size)
}

// findImage follows a descriptor through indexes to the image for a platform.
func findImage(ctx context.Context, b blobs, d v1.Descriptor, p v1.Platform) (*imageSource, error) {
	for range maxNesting {
		raw, err := checked(ctx, b, d)
		if err != nil {
			return nil, err
		}
		if !isIndex(d.MediaType, raw) {
			return readImage(ctx, b, d.Digest, raw, p)
		}
		index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
		if err != nil {
			return nil, fmt.Errorf("%w: index %s: %w", ErrInvalid, d.Digest, err)
		}
		if d, err = choose(index.Manifests, p); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: indexes nested too deeply", ErrInvalid)
}

// checked reads a manifest and compares it with its digest.
func checked(ctx context.Context, b blobs, d v1.Descriptor) ([]byte, error) {
	raw, err := b.manifest(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("reading manifest %s: %w", d.Digest, err)
	}
	if err := check(raw, d.Digest); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return raw, nil
}

func check(b []byte, want v1.Hash) error {
	if want.Algorithm != "sha256" {
		return fmt.Errorf("%w: digest algorithm %q", ErrInvalid, want.Algorithm)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(b)); got != want.Hex {
		return fmt.Errorf("%s has sha256:%s: %w", want, got, ErrDigest)
	}
	return nil
}

func isIndex(t types.MediaType, raw []byte) bool {
	if t != "" {
		return t.IsIndex()
	}
	var m struct {
		MediaType types.MediaType `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	return json.Unmarshal(raw, &m) == nil && (m.MediaType.IsIndex() || m.Manifests != nil)
}

// readImage reads the configuration of a manifest and lists its layers. The
// caller has checked the manifest's digest.
func readImage(ctx context.Context, b blobs, digest v1.Hash, raw []byte, p v1.Platform) (*imageSource, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: manifest %s: %w", ErrInvalid, digest, err)
	}
	if m.Config.Digest.Hex == "" || m.Config.Size > maxConfig {
		return nil, fmt.Errorf("%w: manifest %s (%s) is not of a container image", ErrInvalid, digest, m.MediaType)
	}
	r, err := b.blob(ctx, m.Config)
	if err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", m.Config.Digest, err)
	}
	conf, err := readAll(r, maxConfig)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("reading configuration %s: %w", m.Config.Digest, err)
	}
	if err := check(conf, m.Config.Digest); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return newImage(b, digest, raw, m, conf, p)
}

// newImage puts together an image whose parts were checked.
func newImage(b blobs, digest v1.Hash, raw []byte, m *v1.Manifest, conf []byte, p v1.Platform) (*imageSource, error) {
	img := &imageSource{digest: digest, manifest: raw, rawConf: conf}
	if err := img.configure(p); err != nil {
		return nil, err
	}
	if len(m.Layers) != len(img.config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%w: %d layers, but the configuration has %d",
			ErrInvalid, len(m.Layers), len(img.config.RootFS.DiffIDs))
	}
	for i, d := range m.Layers {
		if !d.MediaType.IsLayer() {
			return nil, fmt.Errorf("%w: layer of type %q", ErrInvalid, d.MediaType)
		}
		if d.Digest.Algorithm != "sha256" || d.Size < 0 {
			return nil, fmt.Errorf("%w: layer %s of %d bytes", ErrInvalid, d.Digest, d.Size)
		}
		img.layers = append(img.layers, layerSource{
			diffID: img.config.RootFS.DiffIDs[i],
			digest: d.Digest,
			size:   d.Size,
			remote: b.remote(),
			open:   func(ctx context.Context) (io.ReadCloser, error) { return b.blob(ctx, d) },
		})
	}
	return img, nil
}

// configure reads the configuration.
func (img *imageSource) configure(p v1.Platform) error {
	if err := json.Unmarshal(img.rawConf, &img.config); err != nil {
		return fmt.Errorf("%w: configuration: %w", ErrInvalid, err)
	}
	ids := img.config.RootFS.DiffIDs
	if len(ids) == 0 || len(ids) > maxLayers {
		return fmt.Errorf("%w: image of %d layers", ErrInvalid, len(ids))
	}
	for _, id := range ids {
		if id.Algorithm != "sha256" || len(id.Hex) != 2*sha256.Size {
			return fmt.Errorf("%w: layer %q", ErrInvalid, id)
		}
	}
	got := v1.Platform{OS: img.config.OS, Architecture: img.config.Architecture, Variant: img.config.Variant}
	if rank(got, p) == 0 && got.Architecture != "" {
		return fmt.Errorf("image is for %s, not for %s: %w", got, p, ErrNotFound)
	}
	return nil
}
