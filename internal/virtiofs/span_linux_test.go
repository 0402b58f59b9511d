package virtiofs

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// naive returns the spans of a file of which each byte is kept by itself, the
// last of them for all that follows.
func naive(file []byte) (s spans) {
	for i := 0; i < len(file); {
		j := i
		for j < len(file) && file[j] == file[i] {
			j++
		}
		if file[i] != 'u' {
			l := span{int64(i), int64(j - 1), file[i] == 'w'}
			if j == len(file) {
				l.last = endOfFile
			}
			s = append(s, l)
		}
		i = j
	}
	return s
}

// TestSpans does the same to spans and to bytes.
func TestSpans(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		file := []byte("uuuuuuuuuuuuuuuu")
		var s spans
		for range 60 {
			first, end := rnd.IntN(len(file)), rnd.IntN(len(file))
			first, end = min(first, end), max(first, end)
			l := span{int64(first), int64(end), rnd.IntN(2) == 0}
			if end == len(file)-1 {
				l.last = endOfFile
			}

			_, got := s.conflict(l)
			want := slices.ContainsFunc(file[first:end+1], func(b byte) bool { return b == 'w' || l.write && b == 'r' })
			if got != want {
				t.Fatalf("%v keeps others from %v: got %v, want %v", s, l, got, want)
			}
			kind, unlock := byte('r'), rnd.IntN(3) == 0
			switch {
			case unlock:
				kind = 'u'
			case l.write:
				kind = 'w'
			}
			for i := first; i <= end; i++ {
				file[i] = kind
			}
			before := slices.Clone(s)
			s = s.set(l, unlock)
			if !slices.Equal(s, naive(file)) {
				t.Fatalf("%v after %v (unlock %v): got %v, want %v", before, l, unlock, s, naive(file))
			}
		}
	}
}
