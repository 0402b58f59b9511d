package layers

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// An archive may also have a file below what is a symbolic link in the layers
// below (lib/x, where lib leads to usr/lib), which unpackers follow. A disk
// made without knowing them would put a folder in place of the link. Such a
// layer gets a second disk, made knowing the links, under a key of its own.

// relink replaces the disks of layers that need it.
func (c *Cache) relink(ctx context.Context, src *imageSource, disks []*disk, report *progress) error {
	for i := range disks {
		links := map[string]string{}
		for range maxSymlinks {
			if disks[i] == nil || len(disks[i].rec.Implied) == 0 {
				break
			}
			more, err := linksBelow(ctx, disks[:i], disks[i].rec.Implied)
			if err != nil {
				return err
			}
			if len(more) == 0 {
				break
			}
			maps.Copy(links, more)
			l := src.layers[i]
			l.links, l.progress = links, report
			d, err := c.ensure(ctx, l)
			if err != nil {
				return err
			}
			if err := disks[i].close(); err != nil {
				return errors.Join(err, d.close())
			}
			disks[i] = d
		}
	}
	return nil
}

// linksBelow returns which of the paths are symbolic links in the union of
// some disks, and where they lead.
func linksBelow(ctx context.Context, disks []*disk, paths []string) (map[string]string, error) {
	disks = slices.DeleteFunc(slices.Clone(disks), func(d *disk) bool { return d == nil })
	u, err := newUnion(disks)
	if err != nil {
		return nil, err
	}
	links := map[string]string{}
	for _, p := range paths {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		target, err := u.link(p)
		if err != nil {
			return nil, fmt.Errorf("looking up %q: %w", p, err)
		}
		if target != "" {
			links[p] = target
		}
	}
	return links, nil
}

// key is what a layer's disk is kept by: the layer's digest, or, of a disk that
// depends on links below, a digest of both.
func (l layerSource) key() (string, error) {
	if len(l.links) == 0 {
		return l.diffID.Hex, nil
	}
	links, err := json.Marshal(l.links) // sorted
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(append([]byte(l.diffID.String()+" "), links...))), nil
}

// assume puts the symbolic links of layers below into an empty tree. They are
// followed, and not written.
func (t *tree) assume(links map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(links)) {
		dir, at, err := t.parent(name)
		if err != nil {
			return err
		}
		base := name[len(at):]
		if at != "" {
			base = base[1:]
		}
		n, err := t.add(dir, base)
		if err != nil {
			return err
		}
		*n = node{by: -1, inode: &inode{entry: -1, link: links[name]}}
	}
	return nil
}
