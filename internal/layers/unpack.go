package layers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
)

// openLocal opens an archive for reading at any place: one that is packed as a
// whole is unpacked into the cache first, and that copy goes when the caller
// calls done.
func (c *Cache) openLocal(ctx context.Context, path string) (f *os.File, done func() error, err error) {
	f, err = os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	in, packed, err := unpacker(&ctxReader{ctx: ctx, r: f})
	if err == nil && !packed {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	if !packed {
		return f, f.Close, nil
	}
	defer f.Close()
	defer in.Close()
	l, err := c.lock(ctx, "archive-"+rand.Text())
	if err != nil {
		return nil, nil, err
	}
	out, err := l.temp("tar")
	if err == nil {
		_, err = io.Copy(out, &limitReader{in, c.cfg.MaxLayer})
	}
	if err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		err = fmt.Errorf("unpacking: %w", c.noSpace(err))
		if out != nil {
			err = errors.Join(err, out.Close())
		}
		return nil, nil, errors.Join(err, l.release())
	}
	return out, func() error { return errors.Join(out.Close(), l.release()) }, nil
}
