//go:build linux

package vhostuser

// A buffer is a byte queue that grows by doubling and never moves bytes while it
// has room. The zero value is empty.
type buffer struct {
	b    []byte // length 0 or a power of two
	r, n int    // first byte and count
}

// minBuffer is the first allocation; most streams carry short messages.
const minBuffer = 4 << 10

// grow makes room for n more bytes.
func (q *buffer) grow(n int) {
	if q.n+n <= len(q.b) {
		return
	}
	size := max(len(q.b), minBuffer)
	for size < q.n+n {
		size *= 2
	}
	b := make([]byte, size)
	q.copyTo(b)
	q.b, q.r = b, 0
}

// write appends p.
func (q *buffer) write(p []byte) {
	q.grow(len(p))
	if len(p) == 0 {
		return
	}
	w := (q.r + q.n) & (len(q.b) - 1)
	m := copy(q.b[w:], p)
	copy(q.b, p[m:])
	q.n += len(p)
}

// read moves bytes to p and returns how many.
func (q *buffer) read(p []byte) int {
	n := q.copyTo(p)
	q.skip(n)
	return n
}

// peek returns the first bytes that lie together. They stay valid until skipped,
// even if the buffer grows.
func (q *buffer) peek() []byte {
	return q.b[q.r:min(q.r+q.n, len(q.b))]
}

// skip drops n bytes.
func (q *buffer) skip(n int) {
	if q.n -= n; q.n == 0 {
		q.r = 0 // the next bytes lie together
		return
	}
	q.r = (q.r + n) & (len(q.b) - 1)
}

func (q *buffer) copyTo(p []byte) int {
	n := copy(p, q.peek())
	if n < q.n && n < len(p) {
		n += copy(p[n:], q.b[:q.n-n])
	}
	return n
}
