package layers

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
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
	return t, finishDisk(disk, c.diffID, t)
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
	packedSum := sha256.New()
	packedIn := io.TeeReader(&ctxReader{ctx, packed, c.read}, packedSum)
	layer, _, err := unpacker(packedIn)
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
	if c.digest.Hex != "" {
		if _, err := io.Copy(io.Discard, packedIn); err != nil {
			return nil, err
		}
		if got := fmt.Sprintf("%x", packedSum.Sum(nil)); got != c.digest.Hex {
			return nil, fmt.Errorf("packed layer %s has sha256:%s: %w", c.digest, got, ErrDigest)
		}
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != c.diffID.Hex {
		return nil, fmt.Errorf("layer %s unpacks to sha256:%s: %w", c.diffID, got, ErrDigest)
	}
	return t, err
}

// feed reads the archive to its end and writes what p or the entries say.
func (c *conversion) feed(ctx context.Context, in *tar.Reader, out *sink, p plan) (*tree, error) {
	t := newTree(c.maxFiles)
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

// finish writes directories and whiteouts, which later entries may change and
// which therefore are written last.
func (t *tree) finish(out *sink) error {
	if t.root.dir != nil {
		if err := out.dir("", t.root); err != nil {
			return err
		}
	}
	return t.root.walk("", func(name string, n *node) error {
		switch {
		case n.isDir():
			return out.dir(name, n)
		case n.whiteout:
			return out.header(&tar.Header{
				Typeflag: tar.TypeReg, Name: path.Join(path.Dir(name), whiteoutPrefix+path.Base(alias(name))),
			})
		}
		return nil
	})
}

const pipeBuffer = 256 << 10

// A sink is the ext4 writer, at work on the other end of a pipe.
type sink struct {
	tw   *tar.Writer
	buf  *bufio.Writer // between tw and pw: fewer changes of goroutine
	pw   *io.PipeWriter
	done chan struct{}
	err  error // set when done is closed
}

func newSink(disk *os.File) *sink {
	pr, pw := io.Pipe()
	buf := bufio.NewWriterSize(pw, pipeBuffer)
	s := &sink{tw: tar.NewWriter(buf), buf: buf, pw: pw, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.err = writeDisk(disk, bufio.NewReaderSize(pr, pipeBuffer))
		pr.CloseWithError(s.err)
	}()
	return s
}

// writeDisk makes the file system from a clean archive. The writer panics on
// input that it does not expect; none should reach it, but what comes from an
// image must not end the process.
func writeDisk(disk *os.File, r io.Reader) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: ext4 writer: %v", ErrInvalid, p)
		}
	}()
	f := &sparseFile{f: disk}
	if err := tar2ext4.ConvertTarToExt4(r, f, tar2ext4.ConvertWhiteout, tar2ext4.MaximumDiskSize(diskMax)); err != nil {
		return fmt.Errorf("writing ext4: %w", err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return f.finish((f.high + diskAlign - 1) / diskAlign * diskAlign)
}

// close ends the archive, or gives it up if err is not nil, and waits for the
// writer. It returns the writer's error.
func (s *sink) close(err error) error {
	if err == nil {
		err = s.tw.Close()
	}
	if err == nil {
		err = s.buf.Flush()
	}
	s.pw.CloseWithError(err)
	<-s.done
	return s.err
}

func (s *sink) header(h *tar.Header) error {
	h.Format = tar.FormatPAX
	return s.tw.WriteHeader(h)
}

// file writes an entry that is no directory.
func (s *sink) file(h *tar.Header, a act, data io.Reader) error {
	h.Name = alias(a.name)
	if h.Typeflag == tar.TypeLink {
		h.Linkname = alias(a.target)
	}
	if err := s.header(h); err != nil {
		return err
	}
	if h.Size == 0 || h.Typeflag != tar.TypeReg {
		return nil
	}
	_, err := io.Copy(s.tw, data)
	return err
}

// dir writes a directory. One without an entry of its own gets what unpackers
// give it.
func (s *sink) dir(name string, n *node) error {
	h := n.dir
	if h == nil {
		h = &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}
	}
	h.Name = name + "/"
	if n.opaque {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattrRecord+xattrOpaque] = "y"
	}
	return s.header(h)
}
