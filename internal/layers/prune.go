package layers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// An Entry is an image that was pulled.
type Entry struct {
	Ref      string
	Platform string
	Digest   string
	Layers   []string // diff IDs, base first
	Size     int64    // what the disks in the cache take, shared ones included
	Missing  int      // how many layers are not in the cache any more
	Created  time.Time
	LastUsed time.Time
}

// List returns the images that were pulled, the last used first.
func (c *Cache) List() ([]Entry, error) {
	paths, err := listDir(filepath.Join(c.dir, "images"), ".json")
	if err != nil {
		return nil, fmt.Errorf("listing images: %w", err)
	}
	var out []Entry
	for _, p := range paths {
		e, err := c.entry(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			c.log.Warn("record of an image was unreadable", "path", p, "err", err)
			continue
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return b.LastUsed.Compare(a.LastUsed) })
	return out, nil
}

func (c *Cache) entry(path string) (Entry, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return Entry{}, err
	}
	rec, err := readPulled(path)
	if err != nil {
		return Entry{}, err
	}
	conf, err := v1.ParseConfigFile(bytes.NewReader(rec.Config))
	if err != nil {
		return Entry{}, fmt.Errorf("%s: %w", path, err)
	}
	e := Entry{
		Ref: rec.Ref, Platform: rec.Platform, Digest: rec.Digest.String(),
		Created: rec.Created, LastUsed: fi.ModTime(),
	}
	for _, id := range conf.RootFS.DiffIDs {
		if slices.Contains(e.Layers, id.String()) {
			continue
		}
		e.Layers = append(e.Layers, id.String())
		if fi, err := os.Stat(c.diskPath(id.Hex)); err == nil {
			e.Size += diskUse(fi)
		} else {
			e.Missing++
		}
	}
	return e, nil
}

// Remove forgets a reference, for all platforms. Its layers stay until
// [Cache.Prune] or until their space is needed. It returns an error that wraps
// [ErrNotFound] if the reference is not known.
func (c *Cache) Remove(ctx context.Context, ref string) error {
	named, err := c.parseRef(ref)
	if err != nil {
		return fmt.Errorf("removing image %s: %w", ref, err)
	}
	entries, err := c.List()
	if err != nil {
		return fmt.Errorf("removing image %s: %w", ref, err)
	}
	found := false
	for _, e := range entries {
		if e.Ref != fullName(named) {
			continue
		}
		found = true
		p, err := parsePlatform(e.Platform)
		if err == nil {
			err = c.forget(ctx, imageKey(e.Ref, p))
		}
		if err != nil {
			return fmt.Errorf("removing image %s: %w", ref, err)
		}
	}
	if !found {
		return fmt.Errorf("removing image %s: %w", ref, ErrNotFound)
	}
	return nil
}

func (c *Cache) forget(ctx context.Context, key string) (err error) {
	l, err := c.lock(ctx, "image-"+key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	return removeIfThere(c.imagePath(key))
}

// PruneOptions are the inputs of [Cache.Prune]; the zero value works.
type PruneOptions struct {
	// Limit is how much the remaining disks may take; the least recently used
	// go first. Zero means the cache's limit, negative none.
	Limit int64
}

// Pruned is what [Cache.Prune] did.
type Pruned struct {
	Layers int   // how many disks were removed
	Bytes  int64 // what they took
	InUse  int   // how many would have been removed, but an Image holds them
}

// Prune removes the disks of layers that no pulled image has, then the least
// recently used ones beyond the limit. Disks that an [Image] of any process
// holds stay.
func (c *Cache) Prune(ctx context.Context, o PruneOptions) (Pruned, error) {
	limit := o.Limit
	if limit == 0 {
		var err error
		if limit, err = c.limit(); err != nil {
			return Pruned{}, fmt.Errorf("pruning: %w", err)
		}
	}
	entries, err := c.List()
	if err != nil {
		return Pruned{}, fmt.Errorf("pruning: %w", err)
	}
	used := map[string]bool{}
	for _, e := range entries {
		for _, id := range e.Layers {
			used[id] = true
		}
	}
	done, err := c.reduce(ctx, limit, func(diffID string) bool { return used[diffID] })
	if err != nil {
		return done, fmt.Errorf("pruning: %w", err)
	}
	return done, nil
}
