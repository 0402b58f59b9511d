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
	key, err := src.key()
	if err != nil {
		return nil, err
	}
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
			err = d.adopt(l)
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

// adopt records when and where a disk now is whose content was found right.
func (d *disk) adopt(l *keyLock) error {
	fi, err := d.f.Stat()
	if err != nil {
		return err
	}
	d.rec.ModTime, d.rec.Inode = fi.ModTime(), inodeOf(fi)
	return l.record(d.rec)
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
		maxSize: l.c.cfg.MaxLayer, maxFiles: l.c.cfg.MaxFiles, links: src.links,
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
	rec, err := recordOf(f)
	if err != nil {
		return err
	}
	rec.DiffID, rec.layerFacts = src.diffID.String(), facts
	if err := f.Close(); err != nil {
		return err
	}
	if err := l.publish(f.Name(), l.c.diskPath(l.key)); err != nil {
		return err
	}
	if err := l.record(rec); err != nil {
		return errors.Join(err, removeIfThere(l.c.diskPath(l.key)))
	}
	l.c.log.DebugContext(ctx, "layer converted", "layer", src.diffID.String(), "took", time.Since(began))
	return nil
}

// record writes what the disk is.
func (l *keyLock) record(rec record) error {
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return l.writeFile(l.c.recordPath(l.key), b)
}
