package bootfiles

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/xi2/xz"
)

// A debPackage is a Debian kernel package: an ar archive whose member data.tar
// is the files.
type debPackage struct {
	path     string
	progress func(string, int64, int64)
	digest   File
}

func (d *debPackage) name() string { return d.path }

func (d *debPackage) modular() bool { return true }

func (d *debPackage) inputs(*kernel) map[string]File { return map[string]File{"package": d.digest} }

func (d *debPackage) each(ctx context.Context, visit func(string, int64, io.Reader) error) error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", d.path)
	}
	if err := d.read(ctx, f, fi.Size(), visit); err != nil {
		return fmt.Errorf("reading %s: %w", d.path, err)
	}
	return nil
}

func (d *debPackage) read(ctx context.Context, f io.Reader, size int64, visit func(string, int64, io.Reader) error) error {
	h := sha256.New()
	r := &countingReader{r: io.TeeReader(&contextReader{ctx, f}, h), total: size,
		report: func(done int64) { d.progress("reading "+filepath.Base(d.path), done, size) }}
	data, member, err := findData(r)
	if err != nil {
		return err
	}
	if err := eachInTar(data, member, visit); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	d.digest = File{Size: size, SHA256: hex.EncodeToString(h.Sum(nil))}
	return nil
}

// findData reads an ar archive up to the content of its data.tar member. The
// format is a magic line, then members of a 60-byte header (name 16, time 12,
// owner 6, group 6, mode 8, size 10, end 2, all text) and a content that is
// padded to an even length.
func findData(r io.Reader) (data io.Reader, name string, err error) {
	magic := make([]byte, 8)
	if _, err := io.ReadFull(r, magic); err != nil && !isEOF(err) {
		return nil, "", err
	}
	if string(magic) != "!<arch>\n" {
		return nil, "", errors.New("not a Debian package")
	}
	for {
		var hdr [60]byte
		if _, err := io.ReadFull(r, hdr[:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("a Debian package without a data.tar")
			}
			return nil, "", err
		}
		size, err := strconv.ParseInt(strings.TrimRight(string(hdr[48:58]), " "), 10, 64)
		if err != nil || size < 0 || hdr[58] != '`' || hdr[59] != '\n' {
			return nil, "", errors.New("a damaged Debian package: bad member header")
		}
		name := strings.TrimRight(strings.TrimRight(string(hdr[:16]), " "), "/")
		if strings.HasPrefix(name, "data.tar") {
			return &memberReader{r, size}, name, nil
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			if errors.Is(err, io.EOF) {
				err = fmt.Errorf("the file is truncated: %w", io.ErrUnexpectedEOF)
			}
			return nil, "", fmt.Errorf("%s: %w", name, err)
		}
	}
}

// inPackage matches what a kernel package has: the image, and the modules.
var inPackage = regexp.MustCompile(`^(?:boot/vmlinuz-[^/]+|(?:usr/)?lib/modules/[^/]+/(.+))$`)

func eachInTar(data io.Reader, member string, visit func(string, int64, io.Reader) error) error {
	u, err := decompressor(data, path.Ext(member))
	if err != nil {
		return fmt.Errorf("%s: %w", member, err)
	}
	t := tar.NewReader(u)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			// To the end, so that the checksum behind the archive is checked.
			_, err = io.Copy(io.Discard, u)
			return wrap(member, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", member, err)
		}
		m := inPackage.FindStringSubmatch(path.Clean(h.Name))
		if m == nil || h.Typeflag != tar.TypeReg {
			continue
		}
		name := m[1]
		if name == "" {
			name = imageName
		}
		if err := visit(name, h.Size, t); err != nil {
			return fmt.Errorf("%s: %w", path.Clean(h.Name), err)
		}
	}
}

// A memberReader is the rest of an archive's member, which may not end early.
type memberReader struct {
	r    io.Reader
	left int64
}

func (m *memberReader) Read(b []byte) (int, error) {
	if m.left == 0 {
		return 0, io.EOF
	}
	n, err := m.r.Read(b[:min(int64(len(b)), m.left)])
	m.left -= int64(n)
	if errors.Is(err, io.EOF) && m.left > 0 {
		err = fmt.Errorf("the file is truncated: %w", io.ErrUnexpectedEOF)
	}
	return n, err
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// decompressor undoes the compression that a file's extension names.
func decompressor(r io.Reader, ext string) (io.Reader, error) {
	switch ext {
	case ".xz":
		return xz.NewReader(r, 0)
	case ".gz":
		return gzip.NewReader(r)
	case ".tar", ".ko":
		return r, nil
	}
	return nil, fmt.Errorf("compression %q is not supported, only xz and gz are", ext)
}

// A countingReader reports what has been read, each MiB.
type countingReader struct {
	r        io.Reader
	n, total int64
	report   func(done int64)
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	before := c.n
	c.n += int64(n)
	if before>>20 != c.n>>20 || before == 0 || n > 0 && c.n == c.total {
		c.report(c.n)
	}
	return n, err
}
