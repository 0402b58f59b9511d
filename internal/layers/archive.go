package layers

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// maxEntries bounds the files of an archive of an image.
const maxEntries = 100_000

// An archive is an uncompressed tar file with an index of where its files are.
type archive struct {
	f     *os.File
	files map[string]archived
}

type archived struct {
	at, size int64
	link     string // for links: the name that has the content
}

// openArchive reads the headers of a tar file. The archive owns f.
func openArchive(f *os.File) (*archive, error) {
	a := &archive{f: f, files: map[string]archived{}}
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// A reader that seeks is left standing at the content of each entry.
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading archive: %w", err)
		}
		if len(a.files) >= maxEntries {
			return nil, fmt.Errorf("entries of the archive %w", ErrTooLarge)
		}
		name := path.Clean("/" + h.Name)[1:]
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			if at+h.Size > fi.Size() {
				return nil, fmt.Errorf("reading archive: %s: %w", name, io.ErrUnexpectedEOF)
			}
			a.files[name] = archived{at: at, size: h.Size}
		case tar.TypeSymlink:
			// docker save links layers that images share.
			a.files[name] = archived{link: path.Join("/", path.Dir(name), h.Linkname)[1:]}
		case tar.TypeLink:
			a.files[name] = archived{link: path.Clean("/" + h.Linkname)[1:]}
		}
	}
	return a, nil
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	for range maxSymlinks {
		e, ok := a.files[name]
		if !ok {
			return nil, 0, fmt.Errorf("%s in the archive: %w", name, fs.ErrNotExist)
		}
		if e.link == "" {
			return io.NopCloser(io.NewSectionReader(a.f, e.at, e.size)), e.size, nil
		}
		name = e.link
	}
	return nil, 0, fmt.Errorf("%w: links of %s in the archive", ErrInvalid, name)
}

func (a *archive) has(name string) bool {
	_, ok := a.files[name]
	return ok
}
