package layers

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// dockerImage is an element of manifest.json in an archive of docker save.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// findDocker returns the image that name says of an archive of docker save;
// an empty name means the only one.
func findDocker(f files, name string, p v1.Platform) (*imageSource, error) {
	raw, err := readFile(f, "manifest.json", maxManifest)
	if err != nil {
		return nil, err
	}
	var list []dockerImage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%w: manifest.json: %w", ErrInvalid, err)
	}
	var found []dockerImage
	var tags []string
	for _, d := range list {
		tags = append(tags, d.RepoTags...)
		match := name == ""
		for _, t := range d.RepoTags {
			match = match || sameRef(name, t)
		}
		if match {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("image %q in the archive: %w, there are: %s", name, ErrNotFound, strings.Join(tags, ", "))
	case 1:
		return found[0].image(f, p)
	}
	return nil, fmt.Errorf("%w: the archive has several images, name one: %s", ErrInvalid, strings.Join(tags, ", "))
}

func (d dockerImage) image(f files, p v1.Platform) (*imageSource, error) {
	conf, err := readFile(f, path.Clean(d.Config), maxConfig)
	if err != nil {
		return nil, err
	}
	img := &imageSource{rawConf: conf}
	img.digest = v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", sha256.Sum256(conf))}
	// The configuration is named by its digest.
	named := strings.TrimSuffix(path.Base(d.Config), ".json")
	if len(named) == 2*sha256.Size && named != img.digest.Hex {
		return nil, fmt.Errorf("configuration %s has %s: %w", d.Config, img.digest, ErrDigest)
	}
	if err := img.configure(p); err != nil {
		return nil, err
	}
	if len(d.Layers) != len(img.config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%w: %d layers, but the configuration has %d",
			ErrInvalid, len(d.Layers), len(img.config.RootFS.DiffIDs))
	}
	for i, name := range d.Layers {
		r, size, err := f.open(path.Clean(name))
		if err != nil {
			return nil, err
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
		img.layers = append(img.layers, layerSource{
			diffID: img.config.RootFS.DiffIDs[i],
			size:   size,
			open: func(context.Context) (io.ReadCloser, error) {
				r, _, err := f.open(path.Clean(name))
				return r, err
			},
		})
	}
	return img, nil
}
