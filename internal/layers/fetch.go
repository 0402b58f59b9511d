package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// fetch returns how to read the packed layer: where it is, or from a copy of
// what a registry has.
func (l *keyLock) fetch(ctx context.Context, src layerSource) (func() (io.ReadCloser, error), error) {
	if !src.remote {
		return func() (io.ReadCloser, error) { return src.open(ctx) }, nil
	}
	f, err := l.temp("blob")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for try := 1; ; try++ {
		err = download(ctx, src, f)
		if err == nil || try == maxTries || ctx.Err() != nil || isNoSpace(err) || errors.Is(err, ErrNotFound) {
			break
		}
		l.c.log.InfoContext(ctx, "download was interrupted", "layer", src.digest.String(), "err", err)
	}
	if err != nil {
		return nil, fmt.Errorf("pulling: %w", err)
	}
	return func() (io.ReadCloser, error) { return os.Open(f.Name()) }, nil
}

// maxTries is how often a download is begun.
const maxTries = 3

func download(ctx context.Context, src layerSource, f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	r, err := src.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(f, &ctxReader{ctx, &limitReader{r, src.size}, src.report("pull")})
	if err == nil && n != src.size {
		err = fmt.Errorf("%d of %d bytes: %w", n, src.size, io.ErrUnexpectedEOF)
	}
	return err
}
