package layers

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
)

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

// finish writes directories and whiteouts, which later entries may change and
// which therefore are written last.
func (t *tree) finish(out *sink) error {
	t.root.fresh = t.root.opaque
	if t.root.dir != nil {
		if err := out.dir("", t.root); err != nil {
			return err
		}
	}
	return t.finishBelow("", t.root, out)
}

// finishBelow writes what is in a directory. Where that hides everything below,
// whiteouts have nothing to hide, and overlayfs would show them.
func (t *tree) finishBelow(at string, dir *node, out *sink) error {
	for _, base := range dir.names() {
		n, name := dir.children[base], path.Join(at, base)
		var err error
		switch {
		case n.isDir():
			n.fresh = n.opaque || dir.fresh
			if err = out.dir(name, n); err == nil {
				err = t.finishBelow(name, n, out)
			}
		case n.whiteout && !dir.fresh:
			err = out.header(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(at, whiteoutPrefix+path.Base(alias(name)))})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
