package layers

import (
	"archive/tar"
	"fmt"
	"time"
)

// maxFile is the largest file that the ext4 writer lays out correctly: behind
// 340 extents of 128 MiB it needs a second index block.
const maxFile = 40 << 30

// clean returns what of a header goes to the disk, and refuses what cannot.
// It returns nil for entries that are no files.
func clean(h *tar.Header) (*tar.Header, error) {
	out := &tar.Header{
		Typeflag: h.Typeflag,
		Name:     h.Name,
		Mode:     h.Mode & 0o7777,
		Uid:      h.Uid,
		Gid:      h.Gid,
		ModTime:  cleanTime(h.ModTime),
		Format:   tar.FormatPAX,
	}
	out.AccessTime, out.ChangeTime = out.ModTime, out.ModTime
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil, nil
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		out.Typeflag, out.Size = tar.TypeReg, h.Size
		if h.Size > maxFile {
			return nil, fmt.Errorf("%q: size %w of %d bytes", h.Name, ErrTooLarge, int64(maxFile))
		}
	case tar.TypeLink:
		out.Linkname = h.Linkname
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxPath {
			return nil, fmt.Errorf("%w: symbolic link %.80q to a name of %d bytes", ErrInvalid, h.Name, len(h.Linkname))
		}
		out.Linkname = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		// What the kernel can encode in 32 bits.
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return nil, fmt.Errorf("%w: device %d:%d of %q", ErrInvalid, h.Devmajor, h.Devminor, h.Name)
		}
		out.Devmajor, out.Devminor = h.Devmajor, h.Devminor
	case tar.TypeDir, tar.TypeFifo:
	default:
		return nil, fmt.Errorf("%w: %q has the unknown type %q", ErrInvalid, h.Name, h.Typeflag)
	}
	if !isID(h.Uid) || !isID(h.Gid) {
		return nil, fmt.Errorf("%w: owner %d:%d of %q", ErrInvalid, h.Uid, h.Gid, h.Name)
	}
	var err error
	out.PAXRecords, err = cleanXattrs(h.PAXRecords)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", h.Name, err)
	}
	return out, nil
}

// isID reports whether n is a user or group; the largest number means none.
func isID(n int) bool { return n >= 0 && int64(n) < 1<<32-1 }

// cleanTime replaces times that the file system cannot hold, as other
// unpackers of images do.
func cleanTime(t time.Time) time.Time {
	if t.Unix() < 0 || t.Unix() >= 1<<33 {
		return time.Unix(0, 0)
	}
	return t
}
