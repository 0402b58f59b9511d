package layers

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Sizes of a scratch disk.
const (
	DefaultScratch = 20 << 30
	MinScratch     = 4 << 20
	MaxScratch     = 16<<40 - blockSize
)

// NewScratch makes an empty, writable ext4 disk of a size in dir, and returns
// its path: a new name on each call. The file is sparse, or on Windows a dynamic
// VHD of no more than 2040 GiB; it takes little until something is written. Zero means [DefaultScratch]; the size is
// rounded down to whole blocks of 4 KiB. The caller removes the file. After an
// error there is none.
func NewScratch(dir string, size int64) (path string, err error) {
	if size == 0 {
		size = DefaultScratch
	}
	if size < MinScratch || size > MaxScratch {
		return "", fmt.Errorf("making scratch disk: %w: size %d is not between %d and %d",
			ErrInvalid, size, MinScratch, int64(MaxScratch))
	}
	f, err := os.CreateTemp(dir, "scratch-*"+diskExt)
	if err != nil {
		return "", fmt.Errorf("making scratch disk: %w", err)
	}
	err = formatScratch(f, size, time.Now())
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
		return "", fmt.Errorf("making scratch disk in %s: %w", filepath.Clean(dir), err)
	}
	return f.Name(), nil
}

func formatScratch(f *os.File, size int64, now time.Time) error {
	fs := newFormat(uint64(size/blockSize), now)
	if _, err := rand.Read(fs.uuid[:]); err != nil {
		return err
	}
	fs.uuid[6] = fs.uuid[6]&0x0f | 0x40 // version 4
	fs.uuid[8] = fs.uuid[8]&0x3f | 0x80
	if _, err := rand.Read(fs.hashSeed[:]); err != nil {
		return err
	}
	return writeScratch(f, fs, vhdDisks)
}

// writeScratch writes a file system, into a dynamic VHD if vhd is set.
func writeScratch(f *os.File, fs *format, vhd bool) error {
	size := int64(fs.blocks) * blockSize
	if !vhd {
		if err := f.Truncate(size); err != nil {
			return err
		}
		return fs.write(f)
	}
	d, err := newDynamicVHD(f, size)
	if err != nil {
		return err
	}
	return errors.Join(fs.write(d), d.finish(fs.uuid))
}
