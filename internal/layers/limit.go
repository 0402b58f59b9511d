package layers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory of the zstd decoder.
const maxWindow = 128 << 20

// unpacker returns r unpacked, whatever of gzip, zstd and nothing it is packed
// with. The media type is not asked: archives do not tell it, and registries
// tell it wrong.
func unpacker(r io.Reader) (out io.ReadCloser, packed bool, err error) {
	b := bufio.NewReaderSize(r, 256<<10)
	magic, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(b)
		return z, true, err
	case isZstd(magic):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, true, err
		}
		return z.IOReadCloser(), true, nil
	}
	return io.NopCloser(b), false, nil
}

// isZstd reports whether something begins with a frame of zstd (RFC 8878, 3.1):
// one with content, or one to skip, as programs that pack in parallel write
// first.
func isZstd(magic []byte) bool {
	return len(magic) == 4 &&
		(string(magic) == "\x28\xb5\x2f\xfd" || magic[0]&0xf0 == 0x50 && string(magic[1:]) == "\x2a\x4d\x18")
}

// A limitReader fails once more than left bytes were read.
type limitReader struct {
	r    io.Reader
	left int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, fmt.Errorf("size %w", ErrTooLarge)
	}
	return n, err
}

// readAll reads r, which must not have more than limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	return io.ReadAll(&limitReader{r, limit})
}

// A ctxReader ends with its context, and tells how much was read.
type ctxReader struct {
	ctx  context.Context
	r    io.Reader
	read func(n int)
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	if c.read != nil && n > 0 {
		c.read(n)
	}
	return n, err
}
