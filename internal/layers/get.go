package layers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// Pull says when a registry is asked.
type Pull string

// The policies of pulling.
const (
	PullMissing Pull = "missing" // if the image or a layer is not in the cache; the default
	PullAlways  Pull = "always"  // for the manifest; layers in the cache are used
	PullNever   Pull = "never"
)

// parallel is how many layers of an image are worked on at a time.
const parallel = 3

// GetOptions are the inputs of [Cache.Get] that may be left out.
type GetOptions struct {
	// Pull is when to ask a registry; empty means [PullMissing]. Folders and
	// archives are always read.
	Pull Pull
	// Platform is os/arch[/variant]; empty means Linux on this host's processor.
	Platform string
	// Progress is called, one call at a time, while layers are pulled and
	// converted. It must not block for long.
	Progress func(Event)
}

// An Image is an image whose layers are disks in the cache. They stay there
// until Close.
type Image struct {
	// Ref is the full reference, or the path that was asked for.
	Ref string
	// Digest is that of the manifest for the platform; of the configuration
	// for an archive of docker save, which has no manifest.
	Digest string
	// Config is the image's configuration: environment, command, user, …
	Config v1.ConfigFile
	// Layers are the disks to stack, base first. They are the layers of the
	// image but for the details of the union: a layer that the image has twice
	// is here once, at its upper place; layers below one that hides everything
	// are left out; and there may be one more on top, which gives folders their
	// mode and owner that archives left out.
	Layers []Layer

	mu   sync.Mutex
	held []*disk
}

// A Layer is one read-only ext4 disk.
type Layer struct {
	DiffID string // digest of the unpacked layer
	Path   string // of the disk
	Size   int64  // of the disk, a multiple of 2 MiB
}

// Close lets the cache remove the image's disks, which must not be in use any
// more. A second call does nothing.
func (i *Image) Close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	err := closeAll(i.held)
	i.held = nil
	return err
}

// Get returns an image with all of its layers in the cache, pulling and
// converting what is missing. ref is an OCI layout folder, an archive of
// docker save or an OCI archive, each optionally with ":" and the name of one
// of several images in it, or a reference to a registry; what exists as a
// path is one. The caller closes the image.
//
// Errors wrap [ErrNotFound], [ErrDigest], [ErrTooLarge] or [ErrInvalid] where
// these fit. After an error, or when ctx ends, nothing of a layer that was not
// finished is left in the cache.
func (c *Cache) Get(ctx context.Context, ref string, o GetOptions) (*Image, error) {
	img, err := c.get(ctx, ref, o)
	if err != nil {
		return nil, fmt.Errorf("getting image %s: %w", ref, err)
	}
	return img, nil
}

func (c *Cache) get(ctx context.Context, ref string, o GetOptions) (*Image, error) {
	if !slices.Contains([]Pull{"", PullMissing, PullAlways, PullNever}, o.Pull) {
		return nil, fmt.Errorf("%w: pull policy %q", ErrInvalid, o.Pull)
	}
	p, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	if path, image, ok := splitLocal(ref); ok {
		src, done, err := c.local(ctx, path, image, p)
		if err != nil {
			return nil, err
		}
		img, err := c.convert(ctx, src, o)
		if err := errors.Join(err, done()); err != nil {
			if img != nil {
				err = errors.Join(err, img.Close())
			}
			return nil, err
		}
		img.Ref = ref
		return img, nil
	}
	return c.pull(ctx, ref, p, o)
}

// convert makes the disks of an image that was found.
func (c *Cache) convert(ctx context.Context, src *imageSource, o GetOptions) (*Image, error) {
	img := &Image{Digest: src.digest.String(), Config: src.config}
	report := &progress{fn: o.Progress}
	disks := make([]*disk, len(src.layers))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, l := range src.layers {
		if slices.ContainsFunc(src.layers[i+1:], func(o layerSource) bool { return o.diffID == l.diffID }) {
			continue
		}
		g.Go(func() (err error) {
			l.progress = report
			disks[i], err = c.ensure(gctx, l)
			return err
		})
	}
	err := g.Wait()
	var top *disk
	if err == nil {
		// Layers below one that hides everything are not in the union.
		for i, d := range disks {
			if d != nil && d.rec.Opaque {
				err = errors.Join(err, closeAll(disks[:i]))
				clear(disks[:i])
			}
		}
	}
	if err == nil {
		err = c.relink(ctx, src, disks, report)
	}
	if err == nil {
		top, err = c.restore(ctx, disks)
	}
	for _, d := range append(disks, top) {
		if d != nil {
			img.held = append(img.held, d)
			img.Layers = append(img.Layers, Layer{d.rec.DiffID, d.f.Name(), d.rec.Size})
		}
	}
	if err == nil {
		if everr := c.evict(ctx); everr != nil {
			c.log.WarnContext(ctx, "layers were not evicted", "err", everr)
		}
	}
	if err != nil {
		return nil, errors.Join(err, img.Close())
	}
	return img, nil
}
