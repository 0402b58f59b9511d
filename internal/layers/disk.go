package layers

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// diskFormat changes when the same layer would give other bytes, so that disks
// of an older byre are made anew.
const diskFormat = 1

// A record says what a disk must be. Its file's modification time is when the
// disk was used last.
type record struct {
	Format  int       `json:"format"`
	DiffID  string    `json:"diffID"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"` // of the disk
	ModTime time.Time `json:"modTime"`
	Inode   uint64    `json:"inode,omitempty"`
	layerFacts
}

// layerFacts is what the union of an image depends on.
type layerFacts struct {
	// Opaque is set if the layer hides everything below it.
	Opaque bool `json:"opaque,omitempty"`
	// Implied has the folders that no entry of the layer describes.
	Implied []string `json:"implied,omitempty"`
}

// A disk is a layer's file in the cache, held by a shared lock.
type disk struct {
	f   *os.File
	rec record
}

func (d *disk) close() error { return d.f.Close() }

// closeAll closes the disks that are not nil.
func closeAll(disks []*disk) error {
	var err error
	for _, d := range disks {
		if d != nil {
			err = errors.Join(err, d.close())
		}
	}
	return err
}

// openDisk returns the disk of a key, or nil if there is none to rely on. Size,
// time and identity of the file must be as recorded; if full is set, a file
// that is not (a restored backup) passes by its digest.
func (c *Cache) openDisk(key string, full bool) (*disk, error) {
	f, err := os.Open(c.diskPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ok, err := tryFlock(f, false)
	if err == nil && ok && sameFile(f, c.diskPath(key)) {
		rec, rerr := c.readRecord(key)
		if rerr == nil && (rec.matches(f) || full && rec.verify(f) == nil) {
			now := time.Now()
			// Only the order of eviction suffers if this fails.
			_ = os.Chtimes(c.recordPath(key), now, now)
			return &disk{f, rec}, nil
		}
		if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			c.log.Warn("record of a layer was unreadable", "layer", key, "err", rerr)
		}
	}
	return nil, errors.Join(err, f.Close())
}

func (c *Cache) readRecord(key string) (record, error) {
	var rec record
	b, err := os.ReadFile(c.recordPath(key))
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return rec, fmt.Errorf("%s: %w", c.recordPath(key), err)
	}
	if rec.Format != diskFormat {
		return rec, fs.ErrNotExist
	}
	return rec, nil
}

// matches compares what costs nothing to compare.
func (r record) matches(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Size() == r.Size && fi.ModTime().Equal(r.ModTime) && inodeOf(fi) == r.Inode
}

// verify compares everything.
func (r record) verify(f *os.File) error {
	got, err := recordOf(f)
	if err != nil {
		return err
	}
	if got.Size != r.Size || got.SHA256 != r.SHA256 {
		return fmt.Errorf("disk %s: %w", f.Name(), ErrDigest)
	}
	return nil
}

func recordOf(f *os.File) (record, error) {
	fi, err := f.Stat()
	if err != nil {
		return record{}, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, fi.Size())); err != nil {
		return record{}, err
	}
	return record{
		Format:  diskFormat,
		Size:    fi.Size(),
		SHA256:  fmt.Sprintf("%x", sum.Sum(nil)),
		ModTime: fi.ModTime(),
		Inode:   inodeOf(fi),
	}, nil
}

// ensure returns the disk of a layer, making it if need be. Of all callers on
// the host that want the same layer, one makes it.
func (c *Cache) ensure(ctx context.Context, src layerSource) (_ *disk, err error) {
	key := src.diffID.Hex
	if d, err := c.openDisk(key, false); d != nil || err != nil {
		return d, err
	}
	l, err := c.lock(ctx, key)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.release()) }()
	if err := l.sweep(); err != nil {
		return nil, err
	}
	d, err := c.openDisk(key, true)
	if err != nil {
		return nil, err
	}
	if d != nil {
		if !d.rec.matches(d.f) {
			err = l.record(d.f, src.diffID, d.rec.layerFacts)
		}
		if err != nil {
			return nil, errors.Join(err, d.close())
		}
		return d, nil
	}
	if err := l.make(ctx, src); err != nil {
		return nil, fmt.Errorf("layer %s: %w", src.diffID, c.noSpace(err))
	}
	d, err = c.openDisk(key, false)
	if err == nil && d == nil {
		err = fmt.Errorf("layer %s: %w: the cache was changed from outside", src.diffID, ErrInvalid)
	}
	return d, err
}

// make fetches a layer and publishes its disk.
func (l *keyLock) make(ctx context.Context, src layerSource) error {
	began := time.Now()
	packed, err := l.fetch(ctx, src)
	if err != nil {
		return err
	}
	f, err := l.temp("disk")
	if err != nil {
		return err
	}
	defer f.Close()
	conv := conversion{
		diffID: src.diffID, digest: src.digest, open: packed, read: src.report("convert"),
		maxSize: l.c.cfg.MaxLayer, maxFiles: l.c.cfg.MaxFiles,
	}
	t, err := conv.run(ctx, f)
	if err != nil {
		return err
	}
	facts := layerFacts{Opaque: t.root.opaque}
	if facts.Implied, err = t.implied(); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o444), f.Sync()); err != nil {
		return err
	}
	if err := l.publish(f.Name(), l.c.diskPath(l.key)); err != nil {
		return err
	}
	if err := l.record(f, src.diffID, facts); err != nil {
		return errors.Join(err, removeIfThere(l.c.diskPath(l.key)))
	}
	l.c.log.DebugContext(ctx, "layer converted", "layer", src.diffID.String(), "took", time.Since(began))
	return nil
}

// record writes what the disk is.
func (l *keyLock) record(f *os.File, diffID v1.Hash, facts layerFacts) error {
	rec, err := recordOf(f)
	if err != nil {
		return err
	}
	rec.DiffID, rec.layerFacts = diffID.String(), facts
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return l.writeFile(l.c.recordPath(l.key), b)
}

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
