package layers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// splitLocal reports whether ref is on this host: a path, alone or followed by
// a colon and the name of one of the images there. What does not look like a
// path is one only if an image is there, so that a folder named like an image
// of a registry is not in the way.
func splitLocal(ref string) (path, image string, ok bool) {
	if isImage(ref) {
		return ref, "", true
	}
	for i := 1; i < len(ref); i++ {
		if ref[i] == ':' && isImage(ref[:i]) {
			return ref[:i], ref[i+1:], true
		}
	}
	// So that the error speaks of a path.
	if filepath.IsAbs(ref) || strings.HasPrefix(ref, "./") || strings.HasPrefix(ref, "../") {
		return ref, "", true
	}
	return "", "", false
}

// isImage reports whether a path is a file, or an OCI layout folder.
func isImage(path string) bool {
	fi, err := os.Stat(path)
	if err == nil && fi.IsDir() {
		_, err = os.Stat(filepath.Join(path, "index.json"))
		return err == nil
	}
	return err == nil && fi.Mode().IsRegular()
}

// local finds an image in a folder or archive. The caller closes what is
// returned when the layers were read.
func (c *Cache) local(ctx context.Context, path, image string, p v1.Platform) (*imageSource, func() error, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if fi.IsDir() {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, nil, err
		}
		img, err := layout{folder{root}}.find(ctx, image, p)
		if err != nil {
			root.Close()
			return nil, nil, err
		}
		return img, root.Close, nil
	}
	f, done, err := c.openLocal(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	img, err := inArchive(ctx, f, image, p)
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return img, done, nil
}

func inArchive(ctx context.Context, f *os.File, image string, p v1.Platform) (*imageSource, error) {
	a, err := openArchive(f)
	if err != nil {
		return nil, err
	}
	switch {
	case a.has("index.json"):
		return layout{a}.find(ctx, image, p)
	case a.has("manifest.json"):
		return findDocker(a, image, p)
	}
	return nil, fmt.Errorf("%w: neither an OCI archive nor one of docker save", ErrInvalid)
}

// parseRef reads a reference to a registry.
func (c *Cache) parseRef(ref string) (name.Reference, error) {
	r, err := name.ParseReference(ref)
	if err == nil && isPlain(r.Context().RegistryStr(), c.cfg.PlainHTTP) {
		r, err = name.ParseReference(ref, name.Insecure)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return r, nil
}

// fullName is the one way to write a reference.
func fullName(r name.Reference) string {
	if rest, ok := strings.CutPrefix(r.Name(), name.DefaultRegistry+"/"); ok {
		return "docker.io/" + rest
	}
	return r.Name()
}

// sameRef reports whether two references mean the same.
func sameRef(a, b string) bool {
	x, err := name.ParseReference(a)
	if err != nil {
		return false
	}
	y, err := name.ParseReference(b)
	return err == nil && x.Name() == y.Name()
}
