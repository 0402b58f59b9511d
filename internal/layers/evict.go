package layers

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A candidate is a disk that might go.
type candidate struct {
	key    string
	diffID string
	size   int64
	used   time.Time
}

// disks lists the disks of the cache, the least recently used first.
func (c *Cache) disks() ([]candidate, error) {
	paths, err := listDir(filepath.Join(c.dir, "layers"), diskExt)
	if err != nil {
		return nil, err
	}
	var out []candidate
	for _, p := range paths {
		fi, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		d := candidate{key: strings.TrimSuffix(filepath.Base(p), diskExt), size: diskUse(fi)}
		// A disk without a record is of no use, and the first to go.
		if rec, err := c.readRecord(d.key); err == nil {
			d.diffID = rec.DiffID
		}
		if rec, err := os.Stat(c.recordPath(d.key)); err == nil {
			d.used = rec.ModTime()
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b candidate) int { return a.used.Compare(b.used) })
	return out, nil
}

// limit is how much the disks may take.
func (c *Cache) limit() (int64, error) {
	if c.cfg.Limit != 0 {
		return c.cfg.Limit, nil
	}
	free, err := freeSpace(c.dir)
	if err != nil {
		return 0, err
	}
	disks, err := c.disks()
	if err != nil {
		return 0, err
	}
	for _, d := range disks {
		free += d.size
	}
	return min(DefaultLimit, free/2), nil
}

// evict brings the cache below its limit as far as disks in use allow.
func (c *Cache) evict(ctx context.Context) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	_, err = c.reduce(ctx, limit, func(string) bool { return true })
	return err
}

// reduce removes the disks that are not to be kept, and then the least
// recently used until the rest takes no more than limit (if that is not
// negative).
func (c *Cache) reduce(ctx context.Context, limit int64, keep func(diffID string) bool) (Pruned, error) {
	var done Pruned
	disks, err := c.disks()
	if err != nil {
		return done, err
	}
	total := int64(0)
	for _, d := range disks {
		total += d.size
	}
	for _, doomed := range []func(candidate) bool{
		func(d candidate) bool { return !keep(d.diffID) || d.used.IsZero() },
		func(d candidate) bool { return limit >= 0 && total > limit },
	} {
		var rest []candidate
		for _, d := range disks {
			if !doomed(d) {
				rest = append(rest, d)
				continue
			}
			if ctx.Err() != nil {
				return done, context.Cause(ctx)
			}
			ok, err := c.removeDisk(d.key)
			if err != nil {
				return done, err
			}
			if !ok {
				done.InUse++
				continue
			}
			total -= d.size
			done.Layers++
			done.Bytes += d.size
		}
		disks = rest
	}
	return done, nil
}

// removeDisk removes a disk that nobody holds or makes. The record goes first:
// a disk without one is not used.
func (c *Cache) removeDisk(key string) (ok bool, err error) {
	l, err := c.tryLock(key)
	if l == nil || err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	f, err := os.Open(c.diskPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if free, err := tryFlock(f, true); err != nil || !free {
		return false, errors.Join(err, f.Close())
	}
	if err := errors.Join(removeIfThere(c.recordPath(key)), removeHeld(f)); err != nil {
		return false, err
	}
	c.log.Debug("layer removed", "layer", key)
	return true, nil
}

// listDir returns the files of a folder whose names end so.
func listDir(dir, suffix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}
