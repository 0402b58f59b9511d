package layers

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// diskAlign is what a disk's length is a multiple of, for persistent memory.
	diskAlign = 2 << 20
	// diskMax is the size that each disk has room for descriptors for. It
	// shapes the bytes of every disk and so is no setting.
	diskMax = 256 << 30
)

// errReplan ends a conversion whose archive has to be read a second time.
var errReplan = errors.New("entries replace one another")

// A conversion turns one layer into a disk.
type conversion struct {
	diffID   v1.Hash
	digest   v1.Hash                       // of the packed layer, empty if unknown
	open     func() (io.ReadCloser, error) // the layer, packed or not
	read     func(n int)                   // told of what is read of it, may be nil
	maxSize  int64
	maxFiles int
	links    map[string]string // of layers below
}

// run writes the disk. It returns the tree of what is on it.
func (c *conversion) run(ctx context.Context, disk *os.File) (*tree, error) {
	t, err := c.pass(ctx, disk, nil)
	if errors.Is(err, errReplan) {
		if err = disk.Truncate(0); err == nil {
			_, err = c.pass(ctx, disk, t.plan())
		}
	}
	if err != nil {
		return nil, err
	}
	if err := finishDisk(disk, c.diffID, t); err != nil || !vhdDisks {
		return t, err
	}
	return t, appendFooter(disk, sha256Prefix(c.diffID))
}

// sha256Prefix is an id for what has a digest.
func sha256Prefix(digest v1.Hash) (id [16]byte) {
	sum := sha256.Sum256([]byte(digest.String()))
	copy(id[:], sum[:])
	return id
}

// pass reads the layer once, checks its digest, and writes the file system.
// Without a plan it hands the entries on as they come and returns errReplan,
// and the tree, when that turns out not to be what they add up to.
func (c *conversion) pass(ctx context.Context, disk *os.File, p plan) (*tree, error) {
	packed, err := c.open()
	if err != nil {
		return nil, err
	}
	defer packed.Close()
	sum := sha256.New()
	in := io.TeeReader(&ctxReader{ctx, packed, c.read}, sum)
	t, err := c.unpack(ctx, in, disk, p)
	switch {
	case err == nil || errors.Is(err, errReplan):
		if serr := c.checkPacked(in, sum); serr != nil {
			return nil, serr
		}
	case ctx.Err() == nil && !errors.Is(err, ErrTooLarge) && !isNoSpace(err):
		// What is wrong with a layer is less than that it is another one.
		if serr := c.checkPacked(in, sum); errors.Is(serr, ErrDigest) {
			return nil, fmt.Errorf("%w: %w", serr, err)
		}
	}
	return t, err
}

// checkPacked reads the rest of the packed layer and compares the sum of all
// that was read with its digest.
func (c *conversion) checkPacked(in io.Reader, sum hash.Hash) error {
	if c.digest.Hex == "" {
		return nil
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != c.digest.Hex {
		return fmt.Errorf("packed layer %s has sha256:%s: %w", c.digest, got, ErrDigest)
	}
	return nil
}

// unpack does the work of pass.
func (c *conversion) unpack(ctx context.Context, packed io.Reader, disk *os.File, p plan) (*tree, error) {
	layer, _, err := unpacker(packed)
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	defer layer.Close()
	sum := sha256.New()
	in := io.TeeReader(&limitReader{layer, c.maxSize}, sum)

	out := newSink(disk)
	t, err := c.feed(ctx, tar.NewReader(in), out, p)
	if out.close(err) != nil && err == nil {
		err = out.err
	}
	if err != nil && !errors.Is(err, errReplan) {
		return nil, err
	}
	// What follows the end of the archive is part of the digest.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != c.diffID.Hex {
		return nil, fmt.Errorf("layer %s unpacks to sha256:%s: %w", c.diffID, got, ErrDigest)
	}
	return t, err
}

// feed reads the archive to its end and writes what p or the entries say.
func (c *conversion) feed(ctx context.Context, in *tar.Reader, out *sink, p plan) (*tree, error) {
	t := newTree(c.maxFiles)
	if err := t.assume(c.links); err != nil {
		return nil, err
	}
	size := int64(0)
	for i := 0; ; i++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading archive: %w", err)
		}
		if i >= 2*c.maxFiles {
			return nil, fmt.Errorf("number of entries %w", ErrTooLarge)
		}
		if h, err = clean(h); err != nil {
			return nil, err
		}
		if h == nil {
			continue
		}
		if size += h.Size; size > c.maxSize {
			return nil, fmt.Errorf("size of files %w of %d bytes", ErrTooLarge, c.maxSize)
		}
		a, err := t.apply(i, h)
		if err != nil {
			return nil, fmt.Errorf("%.200q: %w", h.Name, err)
		}
		if p != nil {
			a = p[i]
		} else if t.replaced {
			continue
		}
		if !a.emit {
			continue
		}
		if err := out.file(h, a, &ctxReader{ctx: ctx, r: in}); err != nil {
			return nil, err
		}
	}
	if p == nil && t.replaced {
		return t, errReplan
	}
	return t, t.finish(out)
}
