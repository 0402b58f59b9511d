package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// stallTime is how long a registry may send nothing while something is awaited.
const stallTime = time.Minute

// registry reads images of one repository.
type registry struct {
	puller *remote.Puller
	repo   name.Repository
}

// registry returns the repository that a reference is in.
func (c *Cache) registry(ref name.Reference) (*registry, error) {
	puller, err := remote.NewPuller(
		remote.WithAuthFromKeychain(c.cfg.Keychain),
		remote.WithTransport(&boundedTransport{remote.DefaultTransport, c.cfg.PlainHTTP, stallTime}),
		remote.WithUserAgent("byre"),
	)
	if err != nil {
		return nil, err
	}
	return &registry{puller, ref.Context()}, nil
}

// find returns the image that a reference means for a platform.
func (r *registry) find(ctx context.Context, ref name.Reference, p v1.Platform) (*imageSource, error) {
	d, err := r.puller.Get(ctx, ref)
	if err != nil {
		return nil, r.explain(err)
	}
	// What was got is not got again.
	top := &known{r, d.Digest, d.Manifest}
	return findImage(ctx, top, d.Descriptor, p)
}

func (r *registry) manifest(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	got, err := r.puller.Get(ctx, r.repo.Digest(d.Digest.String()))
	if err != nil {
		return nil, r.explain(err)
	}
	return got.Manifest, nil
}

func (r *registry) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	l, err := r.puller.Layer(ctx, r.repo.Digest(d.Digest.String()))
	if err != nil {
		return nil, r.explain(err)
	}
	body, err := l.Compressed()
	if err != nil {
		return nil, r.explain(err)
	}
	return body, nil
}

func (r *registry) remote() bool { return true }

// known is a registry of which one manifest is at hand.
type known struct {
	*registry
	digest v1.Hash
	raw    []byte
}

func (k *known) manifest(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	if d.Digest == k.digest {
		return k.raw, nil
	}
	return k.registry.manifest(ctx, d)
}

// explain marks what a registry does not have, and says what to do where it
// wants to know who asks.
func (r *registry) explain(err error) error {
	var t *transport.Error
	if !errors.As(err, &t) {
		return err
	}
	switch t.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case http.StatusUnauthorized, http.StatusForbidden:
		login := "docker login"
		if host := r.repo.RegistryStr(); host != name.DefaultRegistry {
			login += " " + host
		}
		return fmt.Errorf("%w: either there is no such image, or it is not for everybody: try %s", err, login)
	}
	return err
}
