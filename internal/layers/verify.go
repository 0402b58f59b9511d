package layers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Verify reads all disks of the cache and compares them with the digests of
// their records. It returns the diff IDs of those that differ, and removes
// them unless they are in use.
func (c *Cache) Verify(ctx context.Context) (bad []string, err error) {
	paths, err := listDir(filepath.Join(c.dir, "layers"), diskExt)
	if err != nil {
		return nil, fmt.Errorf("verifying: %w", err)
	}
	for _, p := range paths {
		if ctx.Err() != nil {
			return bad, fmt.Errorf("verifying: %w", context.Cause(ctx))
		}
		key := strings.TrimSuffix(filepath.Base(p), diskExt)
		id, ok, err := c.verifyDisk(key)
		if err == nil && !ok {
			bad = append(bad, id)
			_, err = c.removeDisk(key)
		}
		if err != nil {
			return bad, fmt.Errorf("verifying %s: %w", p, err)
		}
	}
	return bad, nil
}

// verifyDisk returns a disk's layer, and whether the disk is as recorded.
func (c *Cache) verifyDisk(key string) (diffID string, ok bool, err error) {
	f, err := os.Open(c.diskPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return "", true, nil // removed meanwhile
	}
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	rec, err := c.readRecord(key)
	if err != nil {
		// Without a record nobody relies on the disk; it will be made again.
		return "", true, nil
	}
	err = rec.verify(f)
	if errors.Is(err, ErrDigest) {
		// Not if it was replaced while it was read.
		return rec.DiffID, !sameFile(f, c.diskPath(key)), nil
	}
	return rec.DiffID, err == nil, err
}
