package layers

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"path"
	"slices"
	"sort"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// An archive may have a file without the folders that it is in. Unpacked onto
// the layers below, such a folder keeps the mode and owner that it has there;
// but overlayfs takes them from the uppermost disk that has the folder, and a
// disk, which all images share, cannot know them. So an image in which that
// matters gets one more disk on top, with nothing but those folders.

// maxImplied bounds the folders of an image that no archive has.
const maxImplied = 100_000

// implied lists the folders without an entry, sorted. Those that hide what is
// below them have nothing to inherit.
func (t *tree) implied() ([]string, error) {
	var out []string
	size := 0
	err := t.root.walk("", func(name string, n *node) error {
		if !n.isDir() || n.dir != nil || n.opaque {
			return nil
		}
		out = append(out, name)
		if size += len(name); len(out) > maxImplied || size > maxImplied*100 {
			return fmt.Errorf("folders without an entry: number %w", ErrTooLarge)
		}
		return nil
	})
	return out, err
}

// restore returns the disk that gives folders their mode and owner back, nil
// if none is needed. disks are those of the image, base first, nil elements
// aside.
func (c *Cache) restore(ctx context.Context, disks []*disk) (*disk, error) {
	disks = slices.DeleteFunc(slices.Clone(disks), func(d *disk) bool { return d == nil })
	paths := map[string]bool{}
	for _, d := range disks {
		for _, p := range d.rec.Implied {
			paths[p] = true
		}
	}
	if len(paths) == 0 || len(disks) < 2 {
		return nil, nil
	}
	if len(paths) > maxImplied {
		return nil, fmt.Errorf("folders without an entry: number %w", ErrTooLarge)
	}
	u, err := newUnion(disks)
	if err != nil {
		return nil, err
	}
	dirs := map[string]*tar.Header{}
	for p := range paths {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		h, inherited, err := u.folder(p)
		if err != nil {
			return nil, fmt.Errorf("looking up %q: %w", p, err)
		}
		if !inherited || isDefault(h) {
			continue
		}
		// The folders above must not get lost in turn.
		for dirs[p] = h; p != "." && err == nil; p = path.Dir(p) {
			if dirs[p] == nil {
				dirs[p], _, err = u.folder(p)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	if len(dirs) == 0 {
		return nil, nil
	}
	archive, err := folders(dirs)
	if err != nil {
		return nil, err
	}
	id := v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(archive))}
	return c.ensure(ctx, layerSource{diffID: id, size: int64(len(archive)),
		open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }})
}

// folders writes an archive of nothing but folders.
func folders(dirs map[string]*tar.Header) ([]byte, error) {
	names := make([]string, 0, len(dirs))
	for name := range dirs {
		names = append(names, name)
	}
	sort.Strings(names)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range names {
		h := *dirs[name]
		h.Name = name + "/"
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

// isDefault reports whether a folder is what one without an entry becomes.
func isDefault(h *tar.Header) bool {
	return h.Mode == 0o755 && h.Uid == 0 && h.Gid == 0 && len(h.PAXRecords) == 0
}
