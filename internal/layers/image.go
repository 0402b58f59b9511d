package layers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A pulled is what the cache knows of a reference. Its file's modification
// time is when the image was used last.
type pulled struct {
	Ref      string    `json:"ref"`
	Platform string    `json:"platform"` // as asked for
	Digest   v1.Hash   `json:"digest"`
	Created  time.Time `json:"created"` // when it was pulled
	Manifest []byte    `json:"manifest"`
	Config   []byte    `json:"config"`
}

func imageKey(ref string, p v1.Platform) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(ref+" "+p.String())))
}

func (c *Cache) imagePath(key string) string {
	return filepath.Join(c.dir, "images", key+".json")
}

// pull returns an image of a registry.
func (c *Cache) pull(ctx context.Context, ref string, p v1.Platform, o GetOptions) (*Image, error) {
	named, err := c.parseRef(ref)
	if err != nil {
		return nil, err
	}
	full := fullName(named)
	key := imageKey(full, p)
	reg, err := c.registry(named)
	if err != nil {
		return nil, err
	}
	var b blobs = reg
	if o.Pull == PullNever {
		b = nowhere{}
	}
	var src *imageSource
	if o.Pull != PullAlways {
		src = c.cached(key, b, p)
	}
	fresh := src == nil
	if fresh {
		if o.Pull == PullNever {
			return nil, fmt.Errorf("image in the cache, and pulling was not allowed: %w", ErrNotFound)
		}
		if src, err = reg.find(ctx, named, p); err != nil {
			return nil, err
		}
	}
	img, err := c.convert(ctx, src, o)
	if err != nil {
		return nil, err
	}
	img.Ref = full
	if fresh {
		err = c.remember(ctx, key, pulled{full, p.String(), src.digest, time.Now().UTC(), src.manifest, src.rawConf})
	} else {
		now := time.Now()
		_ = os.Chtimes(c.imagePath(key), now, now) // only the order of eviction suffers
	}
	if err != nil {
		return nil, errors.Join(err, img.Close())
	}
	return img, nil
}

// remember keeps a reference.
func (c *Cache) remember(ctx context.Context, key string, rec pulled) (err error) {
	raw, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	l, err := c.lock(ctx, "image-"+key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	return l.writeFile(c.imagePath(key), raw)
}

// cached returns an image that was pulled, nil if it was not, or if what is
// there cannot be relied on. Its layers come from b if they are not in the
// cache any more.
func (c *Cache) cached(key string, b blobs, p v1.Platform) *imageSource {
	src, err := c.readCached(key, b, p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Warn("record of an image was unreadable", "path", c.imagePath(key), "err", err)
	}
	return src
}

func (c *Cache) readCached(key string, b blobs, p v1.Platform) (*imageSource, error) {
	rec, err := readPulled(c.imagePath(key))
	if err != nil {
		return nil, err
	}
	if err := check(rec.Manifest, rec.Digest); err != nil {
		return nil, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(rec.Manifest))
	if err != nil {
		return nil, err
	}
	if err := check(rec.Config, m.Config.Digest); err != nil {
		return nil, err
	}
	return newImage(b, rec.Digest, rec.Manifest, m, rec.Config, p)
}

func readPulled(path string) (pulled, error) {
	var rec pulled
	raw, err := os.ReadFile(path)
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(raw, &rec); err != nil {
		return rec, fmt.Errorf("%s: %w", path, err)
	}
	return rec, nil
}

// nowhere has no blobs: those of an image that must not be pulled.
type nowhere struct{}

func (nowhere) manifest(context.Context, v1.Descriptor) ([]byte, error) {
	return nil, fmt.Errorf("manifest in the cache, and pulling was not allowed: %w", ErrNotFound)
}

func (nowhere) blob(context.Context, v1.Descriptor) (io.ReadCloser, error) {
	return nil, fmt.Errorf("layer in the cache, and pulling was not allowed: %w", ErrNotFound)
}

func (nowhere) remote() bool { return true }
