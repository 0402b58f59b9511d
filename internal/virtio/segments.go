//go:build linux

package virtio

import (
	"fmt"
	"runtime/debug"
)

// Segments is scattered guest memory with a cursor. The guest can change what it
// holds at any time. It is used by one goroutine at a time.
type Segments struct {
	parts [][]byte
	next  int    // parts before it are used up
	left  int    // bytes not used up
	of    *Chain // whose memory it is; nil: its ring is locked all the while
}

func (s *Segments) reset() {
	clear(s.parts)
	s.parts, s.next, s.left = s.parts[:0], 0, 0
}

func (s *Segments) add(p []byte) {
	s.parts = append(s.parts, p)
	s.left += len(p)
}

// Len is how many bytes are left.
func (s *Segments) Len() int { return s.left }

// Take copies the next len(p) bytes to p. It is an error if there are fewer, or
// if the guest's memory has gone.
func (s *Segments) Take(p []byte) (err error) {
	if len(p) > s.left {
		return s.short(len(p))
	}
	if s.of != nil {
		if err := s.of.enter(); err != nil {
			return err
		}
		defer s.of.leave(debug.SetPanicOnFault(true), &err)
	}
	for len(p) > 0 {
		p = p[copy(p, s.Chunk(len(p))):]
	}
	return nil
}

// Put copies p to the next len(p) bytes; errors are those of Take.
func (s *Segments) Put(p []byte) (err error) {
	if len(p) > s.left {
		return s.short(len(p))
	}
	if s.of != nil {
		if err := s.of.enter(); err != nil {
			return err
		}
		defer s.of.leave(debug.SetPanicOnFault(true), &err)
	}
	for len(p) > 0 {
		p = p[copy(s.Chunk(len(p)), p):]
	}
	return nil
}

func (s *Segments) short(n int) error {
	return fmt.Errorf("%d bytes where %d are needed", s.left, n)
}

// Slice takes the next n bytes, or what is left, as they lie in memory. They are
// for preadv and pwritev: this process must not touch them itself, as they may
// fault. It is nil when the chain is of no use any more; see [Chain.Gone].
func (s *Segments) Slice(n int) [][]byte {
	if s.of != nil && s.of.pin() != nil {
		return nil
	}
	return s.split(n)
}

// Cut takes the next n bytes, or what is left, as Segments of their own.
func (s *Segments) Cut(n int) Segments {
	before := s.left
	c := Segments{of: s.of, parts: s.split(n)}
	c.left = before - s.left
	return c
}

// split takes the next n bytes, or what is left.
func (s *Segments) split(n int) [][]byte {
	first := s.next
	for n > 0 && s.next < len(s.parts) {
		p := s.parts[s.next]
		if len(p) > n { // the rest of it stays
			own := append(make([][]byte, 0, s.next-first+1), s.parts[first:s.next]...)
			s.parts[s.next] = p[n:]
			s.left -= n
			return append(own, p[:n:n])
		}
		s.next++
		s.left -= len(p)
		n -= len(p)
	}
	return s.parts[first:s.next:s.next]
}

// Chunk returns the next at most n bytes that lie together and moves past them.
// It is empty when n is 0 or nothing is left. It is for who holds the lock of
// the ring.
func (s *Segments) Chunk(n int) []byte {
	if n == 0 || s.next == len(s.parts) {
		return nil
	}
	p := s.parts[s.next]
	if len(p) <= n {
		s.next++
	} else {
		s.parts[s.next] = p[n:]
		p = p[:n]
	}
	s.left -= len(p)
	return p
}
