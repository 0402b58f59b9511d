package bootfiles

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
)

// vhdAlign is what a file's size must be a multiple of to be mapped as
// persistent memory.
const vhdAlign = 2 << 20

// writeVHD writes a tree as an ext4 file system in a fixed VHD: the raw blocks,
// then a footer of 512 bytes.
func writeVHD(w *output, t tree) error {
	if err := writeExt4(w, t); err != nil {
		return fmt.Errorf("making the file system: %w", err)
	}
	size, err := w.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	size = (size + vhdAlign - 1) / vhdAlign * vhdAlign
	if err := w.Truncate(size); err != nil {
		return err
	}
	if _, err := w.Seek(size, io.SeekStart); err != nil {
		return err
	}
	_, err = w.Write(vhdFooter(uint64(size)))
	return err
}

// writeExt4 writes the file system. Files are not put into their inodes, so
// that all of them can be mapped (DAX).
func writeExt4(w *output, t tree) error {
	r, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := writeTar(pw, t)
		pw.CloseWithError(err) // nil: the end
		done <- err
	}()
	err := tar2ext4.ConvertTarToExt4(r, w, tar2ext4.MaximumDiskSize(t.diskSize()))
	r.CloseWithError(errors.New("the file system has been given up"))
	if werr := <-done; err == nil {
		err = werr
	}
	return err
}

// diskSize is an upper limit for the file system: the contents in whole blocks,
// and room for what describes them.
func (t tree) diskSize() int64 {
	size := int64(16 << 20)
	for i := range t {
		size += int64(len(t[i].data)) + 8192
	}
	return (size + vhdAlign - 1) / vhdAlign * vhdAlign
}

func writeTar(w io.Writer, t tree) error {
	epoch := time.Unix(0, 0)
	tw := tar.NewWriter(w)
	for i := range t {
		n := &t[i]
		h := &tar.Header{Name: n.path, Mode: int64(n.mode & 0o7777), ModTime: epoch, Format: tar.FormatPAX}
		switch n.typ() {
		case typeDir:
			h.Typeflag, h.Name = tar.TypeDir, n.path+"/"
		case typeLink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, string(n.data)
		case typeChar:
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(n.major), int64(n.minor)
		default:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(n.data))
		}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := tw.Write(n.data); err != nil {
				return err
			}
		}
	}
	return tw.Close()
}

// vhdFooter is the footer of a fixed disk of size bytes, "Hard Disk Footer
// Format" of the Virtual Hard Disk Image Format Specification 1.0, big-endian.
// The time and the unique id, which the specification wants to be drawn, are
// fixed: two equal folders have equal files.
func vhdFooter(size uint64) []byte {
	b := make([]byte, 512)
	be := binary.BigEndian
	copy(b[0:], "conectix")
	be.PutUint32(b[8:], 2)               // features: reserved, always set
	be.PutUint32(b[12:], 0x10000)        // format version 1.0
	be.PutUint64(b[16:], ^uint64(0))     // no dynamic header
	copy(b[28:], "byre")                 // creator
	be.PutUint32(b[32:], 0x10000)        // its version
	be.PutUint64(b[40:], size)           // original size
	be.PutUint64(b[48:], size)           // current size
	be.PutUint32(b[56:], geometry(size)) // cylinders, heads, sectors
	be.PutUint32(b[60:], 2)              // fixed
	copy(b[68:84], "byre root disk 1")   // unique id
	var sum uint32
	for _, c := range b {
		sum += uint32(c)
	}
	be.PutUint32(b[64:], ^sum)
	return b
}

// geometry is the specification's "CHS Calculation": cylinders in the upper
// half, then heads, then sectors per track.
func geometry(size uint64) uint32 {
	total := min(size/512, 65535*16*255)
	var sectors, heads, tracks uint64
	if total >= 65535*16*63 {
		sectors, heads = 255, 16
		tracks = total / sectors
	} else {
		sectors = 17
		tracks = total / sectors
		heads = max((tracks+1023)/1024, 4)
		if tracks >= heads*1024 || heads > 16 {
			sectors, heads = 31, 16
			tracks = total / sectors
		}
		if tracks >= heads*1024 {
			sectors, heads = 63, 16
			tracks = total / sectors
		}
	}
	return uint32(tracks/heads)<<16 | uint32(heads)<<8 | uint32(sectors)
}
