package container

import (
	"context"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/byrevm/byre/internal/layers"
)

// ImageOptions are the inputs of [OpenImage] that may be left out.
type ImageOptions struct {
	// Pull says when a registry is asked: "missing" (the default), "always"
	// or "never". Folders and archives are always read.
	Pull string

	// Platform is os/arch[/variant]; "" means Linux on this host's processor.
	Platform string

	// CacheDir is the folder of the layer cache; "" means $BYRE_CACHE,
	// /var/lib/byre/cache for root, or the user's cache folder.
	CacheDir string

	// Progress, when not nil, is called, one call at a time, while layers are
	// pulled and converted: what is done to which layer, and how many bytes
	// of how many are done. A total of 0 is not known.
	Progress func(stage, layer string, done, total int64)
}

// An Image is an image whose layers are read-only disks on this host, in a
// cache that all VMs share.
type Image struct {
	ref, digest string
	config      v1.Config
	layers      []string

	once sync.Once
	img  *layers.Image
	err  error
}

// OpenImage returns an image with all its layers as disks, pulling and
// converting what is missing. ref is a reference of a registry, an OCI layout
// folder, or an OCI or docker archive. When ctx ends, nothing unfinished is
// left. The caller closes the image after its last container.
func OpenImage(ctx context.Context, ref string, o ImageOptions) (*Image, error) {
	c, err := layers.Open(layers.Config{Dir: o.CacheDir})
	if err != nil {
		return nil, err
	}
	get := layers.GetOptions{Pull: layers.Pull(o.Pull), Platform: o.Platform}
	if o.Progress != nil {
		get.Progress = func(e layers.Event) { o.Progress(e.Stage, e.Layer, e.Done, e.Total) }
	}
	img, err := c.Get(ctx, ref, get)
	if err != nil {
		return nil, err
	}
	i := &Image{ref: img.Ref, digest: img.Digest, config: img.Config.Config, img: img}
	for _, l := range img.Layers {
		i.layers = append(i.layers, l.Path)
	}
	return i, nil
}

// Ref returns the full reference, or the path that was opened.
func (i *Image) Ref() string { return i.ref }

// Digest returns the digest of the image's manifest.
func (i *Image) Digest() string { return i.digest }

// Layers returns the paths of the disks, the lowest first. They are there
// until Close.
func (i *Image) Layers() []string { return append([]string(nil), i.layers...) }

// Close lets the cache remove the disks when it needs the room. A second call
// does nothing.
func (i *Image) Close() error {
	i.once.Do(func() { i.err = i.img.Close() })
	return i.err
}
