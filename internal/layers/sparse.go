package layers

import (
	"bytes"
	"io"
	"os"
)

const pageSize = 4096

var zeroPage [pageSize]byte

// A sparseFile writes a file and leaves holes where whole pages are zero.
// Pages that were written before are always written again.
type sparseFile struct {
	f    *os.File
	pos  int64
	high int64 // nothing was written at or behind this offset
}

func (s *sparseFile) Read(p []byte) (int, error) {
	n, err := s.f.ReadAt(p, s.pos)
	s.pos += int64(n)
	return n, err
}

func (s *sparseFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.high
	}
	if offset < 0 {
		return 0, os.ErrInvalid
	}
	s.pos = offset
	return offset, nil
}

func (s *sparseFile) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := s.run(p[done:])
		if s.pos < s.high || !isZero(p[done:done+n]) {
			if m, err := s.f.WriteAt(p[done:done+n], s.pos); err != nil {
				s.advance(m)
				return done + m, err
			}
		}
		s.advance(n)
		done += n
	}
	return done, nil
}

func (s *sparseFile) advance(n int) {
	s.pos += int64(n)
	s.high = max(s.high, s.pos)
}

// run returns how many leading bytes of p can be treated alike: up to the next
// page boundary, then as many whole pages as are, or are not, zero.
func (s *sparseFile) run(p []byte) int {
	if off := s.pos % pageSize; off != 0 {
		return min(len(p), int(pageSize-off))
	}
	if len(p) <= pageSize {
		return len(p)
	}
	first := isZero(p[:pageSize])
	n := pageSize
	for n+pageSize <= len(p) && isZero(p[n:n+pageSize]) == first {
		n += pageSize
	}
	return n
}

// finish gives the file its length, which holes at its end do not.
func (s *sparseFile) finish(size int64) error {
	return s.f.Truncate(size)
}

func isZero(p []byte) bool {
	for len(p) > pageSize {
		if !bytes.Equal(p[:pageSize], zeroPage[:]) {
			return false
		}
		p = p[pageSize:]
	}
	return bytes.Equal(p, zeroPage[:len(p)])
}
