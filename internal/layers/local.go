package layers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Annotations by which an index names its images.
const (
	refName   = "org.opencontainers.image.ref.name"
	imageName = "io.containerd.image.name"
)

// files is an OCI layout: a folder or an archive.
type files interface {
	// open returns a file of the layout and its size. The name is relative,
	// with slashes.
	open(name string) (io.ReadCloser, int64, error)
}

// A folder is an OCI layout folder. Nothing outside it is opened.
type folder struct {
	root *os.Root
}

func (f folder) open(name string) (io.ReadCloser, int64, error) {
	r, err := f.root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	fi, err := r.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is not a file", ErrInvalid, name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, r.Close())
	}
	return r, fi.Size(), nil
}

// layout reads images of an OCI layout.
type layout struct {
	files
}

func (l layout) manifest(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	r, err := l.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readAll(r, maxManifest)
}

func (l layout) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	r, _, err := l.open(path.Join("blobs", d.Digest.Algorithm, d.Digest.Hex))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, ErrNotFound)
	}
	return r, err
}

func (l layout) remote() bool { return false }

// find reads the index and returns the image that name says; an empty name
// means the only one.
func (l layout) find(ctx context.Context, name string, p v1.Platform) (*imageSource, error) {
	raw, err := readFile(l.files, "index.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: not an OCI layout: %w", ErrInvalid, err)
	}
	if err != nil {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%w: index.json: %w", ErrInvalid, err)
	}
	var found []v1.Descriptor
	names := map[string]string{} // what to say for what the index says
	for _, d := range index.Manifests {
		n := d.Annotations[refName]
		full := d.Annotations[imageName]
		if name == "" || name == n || name == full || name == d.Digest.String() || full != "" && sameRef(name, full) {
			found = append(found, d)
			names[n+" "+full] = cmp.Or(full, n, d.Digest.String())
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("image %q in the layout: %w", name, ErrNotFound)
	case len(names) > 1:
		list := slices.Sorted(maps.Values(names))
		return nil, fmt.Errorf("%w: the layout has several images, name one: %s", ErrInvalid, strings.Join(list, ", "))
	}
	d, err := choose(found, p)
	if err != nil {
		return nil, err
	}
	for _, o := range found {
		if o.Digest != d.Digest && fits(o, p) == fits(d, p) {
			return nil, fmt.Errorf("%w: the layout has several images, say %s or %s", ErrInvalid, d.Digest, o.Digest)
		}
	}
	return findImage(ctx, l, d, p)
}

func readFile(f files, name string, limit int64) ([]byte, error) {
	r, _, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := readAll(r, limit)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return b, nil
}
