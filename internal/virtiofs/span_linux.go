package virtiofs

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// A span is a part of a file that is locked: from its first byte to its last,
// which is endOfFile where it is all that ever follows.
type span struct {
	first, last int64
	write       bool
}

const endOfFile = math.MaxInt64

func (l span) whole() bool { return l.first == 0 && l.last == endOfFile }

// spans are the locks of one owner on one file: in order, without overlaps,
// and none is next to one of the same kind. It is what the host's kernel keeps
// for the owner's description.
type spans []span

// from returns the index of the first span that ends at or after a byte.
func (s spans) from(first int64) int {
	i, _ := slices.BinarySearchFunc(s, first, func(l span, first int64) int {
		if l.last < first {
			return -1
		}
		return 1
	})
	return i
}

// conflict returns the first span that keeps others from taking l.
func (s spans) conflict(l span) (span, bool) {
	for i := s.from(l.first); i < len(s) && s[i].first <= l.last; i++ {
		if l.write || s[i].write {
			return s[i], true
		}
	}
	return span{}, false
}

// set returns the locks after the owner has taken l, in exchange for what it
// has of that part, or has unlocked that part. s is used up.
func (s spans) set(l span, unlock bool) spans {
	i := s.from(l.first)
	j := i
	for j < len(s) && s[j].first <= l.last {
		j++
	}
	var put []span
	if i < j && s[i].first < l.first {
		put = append(put, span{s[i].first, l.first - 1, s[i].write})
	}
	if !unlock {
		put = append(put, l)
	}
	if i < j && s[j-1].last > l.last {
		put = append(put, span{l.last + 1, s[j-1].last, s[j-1].write})
	}
	if i > 0 {
		i--
		put = slices.Insert(put, 0, s[i])
	}
	if j < len(s) {
		put = append(put, s[j])
		j++
	}
	joined := put[:0]
	for _, l := range put {
		if n := len(joined); n > 0 && joined[n-1].write == l.write && joined[n-1].last == l.first-1 {
			joined[n-1].last = l.last
			continue
		}
		joined = append(joined, l)
	}
	return slices.Replace(s, i, j, joined...)
}

// host returns l as the host's kernel takes it.
func (l span) host() unix.Flock_t {
	h := unix.Flock_t{Type: unix.F_RDLCK, Start: l.first}
	if l.write {
		h.Type = unix.F_WRLCK
	}
	if l.last < endOfFile {
		h.Len = l.last - l.first + 1
	}
	return h
}

// spanOf is the reverse of [span.host].
func spanOf(h unix.Flock_t) span {
	l := span{first: h.Start, last: endOfFile, write: h.Type == unix.F_WRLCK}
	if h.Len > 0 {
		l.last = h.Start + h.Len - 1
	}
	return l
}
